// A consumer warpgroup: 64 rows of queries against all key tiles of its block, bf16.
//
// The product S = Q K^T of the next tile is issued before O += P V of the current one, and the softmax of that S runs
// while P V is still in the tensor cores (FlashAttention-3, arXiv 2407.08608, sections 3.1 and 3.2). The two warpgroups
// take turns at issuing, so that one computes exponentials while the other's products run.
#pragma once

#include "attention/schedule.h"
#include "attention/sm90/epilogue.cuh"
#include "attention/sm90/operands.h"
#include "attention/sm90/params.h"
#include "attention/sm90/shared.cuh"
#include "attention/softmax.cuh"
#include "common/ptx/registers.cuh"
#include "common/ptx/wgmma.cuh"

namespace hunyuan::attention::sm90 {

template <class T>
struct Consumer {
  static constexpr int kScores = T::kKeys / 2, kOut = T::kHeadDim / 2;  // accumulators of a lane

  const Params& params;
  ConsumerPipeline<T> pipeline;

  __device__ void tile(const Work& work) {
    const KeyTiles tiles = key_tiles<T>(params, work);
    if (tiles.left == 0) return epilogue(work).store_nothing();

    const float factor[2] = {params.factor, params.factor};
    float out[kOut], scores[kScores];
    uint32_t probabilities[kScores / 2];
    RowSoftmax<> softmax;
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0.0f;

    pipeline.wait_query();
    pipeline.wait_key();
    issue_scores(scores);
    ptx::wgmma_wait<0>();
    ptx::pin(scores);
    pipeline.release_key();
    hide_tail(scores, work, tiles.tile);
    softmax.first(scores, factor);
    pack_probabilities(scores, probabilities);

    for (int left = tiles.left - 1; left > 0; --left) {
      float correction[2];
      pipeline.wait_key();
      pipeline.take_turn();
      issue_scores(scores);
      pipeline.wait_value();
      issue_out(out, probabilities);
      pipeline.give_turn();
      ptx::wgmma_wait<1>();
      ptx::pin(scores);
      pipeline.release_key();
      softmax.next(scores, factor, correction);
      ptx::pin(scores);  // the exponentials belong before the wait, where they overlap the product
      ptx::wgmma_wait<0>();
      ptx::pin(out);
      ptx::pin(probabilities);
      pipeline.release_value();
      rescale_rows(out, correction);
      pack_probabilities(scores, probabilities);
    }

    pipeline.wait_value();
    issue_out(out, probabilities);
    ptx::wgmma_wait<0>();
    ptx::pin(out);
    pipeline.release_value();
    epilogue(work).store(out, softmax, pipeline.shared.staging());
    pipeline.release_query();
  }

 private:
  __device__ Epilogue<T> epilogue(const Work& work) const {
    return {params, work, pipeline.group, ptx::computed_here(pipeline.thread)};
  }

  // S = Q K^T of this group's rows.
  __device__ void issue_scores(float (&scores)[kScores]) const {
    ptx::pin(scores);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kHeadDim; k += T::kStep)
      ptx::wgmma_bf16(scores, query_operand<T>(pipeline.shared.query(), pipeline.group, k),
                      key_operand<T>(pipeline.key(), k), k > 0);
    ptx::wgmma_commit();
  }

  // O += P V.
  __device__ void issue_out(float (&out)[kOut], uint32_t (&probabilities)[kScores / 2]) const {
    ptx::pin(out);
    ptx::pin(probabilities);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kKeys; k += T::kStep)
      ptx::wgmma_bf16(out, probabilities + k / 4, value_operand<T>(pipeline.value(), k), 1);
    ptx::wgmma_commit();
  }

  // Takes what lies past the keys out of the first visited tile. Its values are zero in shared memory only where the
  // tensor ends; elsewhere they are someone's data, possibly NaN, and 0 * NaN is not 0.
  __device__ void hide_tail(float (&scores)[kScores], const Work& work, int tile) const {
    const int keys = attended_keys<T>(params, work), valid = keys - tile * T::kKeys;
    if (valid >= T::kKeys) return;
    mask_columns(scores, valid, pipeline.lane());
    if (keys < params.keys) clear_values(valid);
  }

  // Zeros in the rows from `first` on of the value tile that comes next; all consumers take part.
  __device__ void clear_values(int first) const {
    pipeline.wait_value();
    const uint32_t begin =
        first * ptx::kPanelBytes + (pipeline.group * kWarpgroup + pipeline.thread) * ptx::kChunkBytes;
    for (int panel = 0; panel < T::kPanels; ++panel)
#pragma unroll 1
      for (uint32_t offset = begin; offset < T::kKeyPanelBytes; offset += T::kConsumers * ptx::kChunkBytes)
        ptx::store_shared(pipeline.value() + panel * T::kKeyPanelBytes + offset, make_uint4(0, 0, 0, 0));
    ptx::proxy_fence();
    ptx::named_sync(kConsumersBarrier, T::kConsumers);
  }
};

}  // namespace hunyuan::attention::sm90
