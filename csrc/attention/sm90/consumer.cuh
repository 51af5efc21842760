// A consumer warpgroup: 64 rows of queries against all key tiles of its block, bf16.
//
// The product S = Q K^T of the next tile is issued before O += P V of the current one, and the softmax of that S runs
// while P V is still in the tensor cores (FlashAttention-3, arXiv 2407.08608, sections 3.1 and 3.2). The two warpgroups
// take turns at issuing, so that one computes exponentials while the other's products run.
#pragma once

#include "attention/sm90/consumer_parts.cuh"

namespace hunyuan::attention::sm90 {

template <class T>
struct Consumer : ConsumerParts<T> {
  using Parts = ConsumerParts<T>;
  using Parts::kOut, Parts::kProbabilities, Parts::kScores, Parts::params, Parts::pipeline;

  __device__ void tile(const Work& work) {
    const KeyTiles tiles = key_tiles<T>(params, work);
    if (tiles.left == 0) return Parts::epilogue(work).store_nothing();

    const float factor[2] = {params.factor, params.factor};
    float out[kOut], scores[kScores];
    uint32_t probabilities[kProbabilities];
    RowSoftmax<> softmax;
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0.0f;

    Parts::first_scores(scores);
    hide_tail(scores, work, tiles.tile);
    softmax.first(scores, factor);
    pack_probabilities(scores, probabilities);

    for (int left = tiles.left - 1; left > 0; --left) {
      float correction[2];
      pipeline.wait_key();
      pipeline.take_turn();
      Parts::issue_scores(scores);
      pipeline.wait_value();
      Parts::issue_values(out, probabilities);
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
    Parts::issue_values(out, probabilities);
    ptx::wgmma_wait<0>();
    ptx::pin(out);
    pipeline.release_value();
    Parts::epilogue(work).store(out, softmax, pipeline.shared.staging());
    pipeline.release_query();
  }

 private:
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
