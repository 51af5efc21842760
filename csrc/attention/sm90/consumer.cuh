// A consumer warpgroup: 64 rows of queries against all key tiles of its block.
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
  const Shared<T> shared;
  const int group, thread;  // warpgroup, and thread within it
  ptx::Ring<T::kStages> key_slot{}, value_slot{};
  uint32_t query_parity = 0;

  __device__ void run(const Schedule& schedule, int first, int step, int rank) {
    if (group == 1) ptx::named_arrive(kTurnBarrier, T::kConsumers);  // group 0 begins
    for (int index = first; index < schedule.count(); index += step) tile(work_of<T>(schedule, index, rank));
    if (group == 0) ptx::named_sync(kTurnBarrier, T::kConsumers);  // takes the turn that group 1 gave last
  }

 private:
  __device__ int lane() const { return thread % kWarp; }

  __device__ void tile(const Work& work) {
    const int keys = valid_keys(params.kv_len, work.batch, params.keys);
    const KeyTiles tiles = key_tiles<T>(params, work);
    if (tiles.left == 0) return Epilogue<T>{params, work, group, ptx::computed_here(thread)}.store_nothing();

    float out[kOut], scores[kScores];
    uint32_t probabilities[kScores / 2];
    RowSoftmax softmax;
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0.0f;

    ptx::barrier_wait(shared.query_full(), query_parity);
    query_parity ^= 1;
    ptx::barrier_wait(shared.key_full(key_slot.stage), key_slot.parity);
    issue_scores(scores);
    ptx::wgmma_wait<0>();
    ptx::pin(scores);
    release_key();
    const int valid = keys - tiles.tile * T::kKeys;
    if (valid < T::kKeys) {
      mask_columns(scores, valid, lane());
      // What lies past the keys is zero in shared memory only where the tensor ends; elsewhere it is someone's data,
      // possibly NaN, and 0 * NaN is not 0.
      if (keys < params.keys) clear_values(valid);
    }
    softmax.first(scores, params.factor);
    pack_probabilities(scores, probabilities);

    for (int left = tiles.left - 1; left > 0; --left) {
      float correction[2];
      ptx::barrier_wait(shared.key_full(key_slot.stage), key_slot.parity);
      ptx::named_sync(kTurnBarrier + group, T::kConsumers);
      issue_scores(scores);
      ptx::barrier_wait(shared.value_full(value_slot.stage), value_slot.parity);
      issue_out(out, probabilities);
      ptx::named_arrive(kTurnBarrier + 1 - group, T::kConsumers);
      ptx::wgmma_wait<1>();
      ptx::pin(scores);
      release_key();
      softmax.next(scores, params.factor, correction);
      ptx::pin(scores);  // the exponentials belong before the wait, where they overlap the product
      ptx::wgmma_wait<0>();
      ptx::pin(out);
      ptx::pin(probabilities);
      release_value();
      rescale_rows(out, correction);
      pack_probabilities(scores, probabilities);
    }

    ptx::barrier_wait(shared.value_full(value_slot.stage), value_slot.parity);
    issue_out(out, probabilities);
    ptx::wgmma_wait<0>();
    ptx::pin(out);
    release_value();
    Epilogue<T>{params, work, group, ptx::computed_here(thread)}.store(out, softmax, shared.query());
    release_query();
  }

  // S = Q K^T of this group's rows.
  __device__ void issue_scores(float (&scores)[kScores]) const {
    ptx::pin(scores);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kHeadDim; k += kStep)
      ptx::wgmma_bf16(scores, query_operand<T>(shared.query(), group, k), key_operand<T>(shared.key(key_slot.stage), k),
                      k > 0);
    ptx::wgmma_commit();
  }

  // O += P V.
  __device__ void issue_out(float (&out)[kOut], uint32_t (&probabilities)[kScores / 2]) const {
    ptx::pin(out);
    ptx::pin(probabilities);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kKeys; k += kStep)
      ptx::wgmma_bf16(out, probabilities + k / 4, value_operand<T>(shared.value(value_slot.stage), k), 1);
    ptx::wgmma_commit();
  }

  __device__ void release_key() {
    release_slot<T>(shared.key_empty(key_slot.stage), lane());
    key_slot.advance();
  }

  __device__ void release_value() {
    release_slot<T>(shared.value_empty(value_slot.stage), lane());
    value_slot.advance();
  }

  // The staged output has been read: the next query may overwrite it.
  __device__ void release_query() const {
    ptx::proxy_fence();
    __syncwarp();
    if (lane() == 0) ptx::barrier_arrive(shared.query_empty());
  }

  // Zeros in the rows from `first` on of the value tile that comes next; all consumers take part.
  __device__ void clear_values(int first) const {
    ptx::barrier_wait(shared.value_full(value_slot.stage), value_slot.parity);
    const uint32_t begin = first * ptx::kPanelBytes + (group * kWarpgroup + thread) * ptx::kChunkBytes;
    for (int panel = 0; panel < T::kPanels; ++panel)
#pragma unroll 1
      for (uint32_t offset = begin; offset < T::kKeyPanelBytes; offset += T::kConsumers * ptx::kChunkBytes)
        ptx::store_shared(shared.value(value_slot.stage) + panel * T::kKeyPanelBytes + offset, make_uint4(0, 0, 0, 0));
    ptx::proxy_fence();
    ptx::named_sync(kConsumersBarrier, T::kConsumers);
  }
};

}  // namespace hunyuan::attention::sm90
