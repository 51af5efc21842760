// What the bf16 and the e4m3 consumers share: the issue of both products, the first scores of a tile, the epilogue.
#pragma once

#include "attention/cuda/softmax.cuh"
#include "attention/schedule.h"
#include "attention/sm90/epilogue.cuh"
#include "attention/sm90/params.h"
#include "attention/sm90/shared.cuh"
#include "attention/sm90/tile.h"
#include "common/ptx/registers.cuh"
#include "common/ptx/wgmma.cuh"

namespace hunyuan::attention::sm90 {

template <class T>
struct ConsumerParts {
  static constexpr int kScores = T::kKeys / 2, kOut = T::kHeadDim / 2;   // accumulators of a lane
  static constexpr int kProbabilities = kScores * T::kElementBytes / 4;  // registers

  const ParamsOf<T>& params;
  ConsumerPipeline<T> pipeline;

  __device__ Epilogue<T> epilogue(const Work& work) const {
    return {params, work, pipeline.group, ptx::computed_here(pipeline.thread)};
  }

  // The scores of the first visited tile; nothing runs beside them.
  __device__ void first_scores(float (&scores)[kScores]) {
    pipeline.wait_query();
    pipeline.wait_key();
    issue_scores(scores);
    ptx::wgmma_wait<0>();
    ptx::pin(scores);
    pipeline.release_key();
  }

  // S = Q K^T of this group's rows.
  __device__ void issue_scores(float (&scores)[kScores]) const {
    ptx::pin(scores);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kHeadDim; k += T::kStep) {
      const uint64_t query = query_operand<T>(pipeline.shared.query(), pipeline.group, k);
      if constexpr (T::kFp8)
        ptx::wgmma_e4m3(scores, query, key_operand<T>(pipeline.key(), k), k > 0);
      else
        ptx::wgmma_bf16(scores, query, key_operand<T>(pipeline.key(), k), k > 0);
    }
    ptx::wgmma_commit();
  }

  // O += P V; of FP8 O = P V, the product of one tile.
  __device__ void issue_values(float (&out)[kOut], uint32_t (&probabilities)[kProbabilities]) const {
    ptx::pin(out);
    ptx::pin(probabilities);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kKeys; k += T::kStep) {
      uint32_t* operand = probabilities + k / T::kStep * 4;
      if constexpr (T::kFp8)
        ptx::wgmma_e4m3(out, operand, value_operand<T>(pipeline.value(), k), k > 0);
      else
        ptx::wgmma_bf16(out, operand, value_operand<T>(pipeline.value(), k), 1);
    }
    ptx::wgmma_commit();
  }
};

}  // namespace hunyuan::attention::sm90
