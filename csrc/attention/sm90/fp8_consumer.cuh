// A consumer warpgroup: 64 rows of queries against all key tiles of its block, e4m3. The schedule is that of
// consumer.cuh.
//
// The tensor cores accumulate FP8 products in about 22 bits, so the product of each tile of 128 keys goes to
// accumulators of its own and is added to the output in float32. Scales cost nothing in the loop: those of queries (a
// row) and keys (a tile) are part of the softmax's factor; the output is kept in units of the latest value tile's
// scale, and the change of unit is part of the softmax's correction.
#pragma once

#include "attention/sm90/consumer_parts.cuh"

namespace hunyuan::attention::sm90 {

template <class T>
struct Fp8Consumer : ConsumerParts<T> {
  using Parts = ConsumerParts<T>;
  using Parts::kOut, Parts::kProbabilities, Parts::kScores, Parts::params, Parts::pipeline;
  static constexpr int kBias = 8;  // probabilities are 0..256: e4m3 has no use for the range above 1 otherwise

  __device__ void tile(const Work& work) {
    KeyTiles tiles = key_tiles<T>(params, work);
    if (tiles.left == 0) return Parts::epilogue(work).store_nothing();

    const int64_t scales =
        (static_cast<int64_t>(work.batch) * params.heads + work.head) * ceil_div(params.keys, T::kKeys);
    const float *key_scale = params.key_scale + scales, *value_scale = params.value_scale + scales;
    float out[kOut], product[kOut], scores[kScores], row_factor[2], factor[2], carry[2] = {1.0f, 1.0f};
    uint32_t probabilities[kProbabilities];
    RowSoftmax<kBias> softmax;
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0.0f;
    load_row_factors(row_factor, work);
    float unit = value_scale[tiles.tile];

    set_factor(factor, row_factor, key_scale[tiles.tile]);
    Parts::first_scores(scores);
    const int valid = valid_keys(params.kv_len, work.batch, params.keys) - tiles.tile * T::kKeys;
    if (valid < T::kKeys) mask_columns(scores, valid, pipeline.lane());
    softmax.first(scores, factor);
    pack_probabilities(scores, probabilities);

    for (tiles.next(); tiles.left > 0; tiles.next()) {
      float correction[2];
      const float next_unit = value_scale[tiles.tile];
      set_factor(factor, row_factor, key_scale[tiles.tile]);
      pipeline.wait_key();
      pipeline.take_turn();
      Parts::issue_scores(scores);
      pipeline.wait_value();
      Parts::issue_values(product, probabilities);
      pipeline.give_turn();
      ptx::wgmma_wait<1>();
      ptx::pin(scores);
      pipeline.release_key();
      softmax.next(scores, factor, correction);
      ptx::pin(scores);  // the exponentials belong before the wait, where they overlap the product
      ptx::wgmma_wait<0>();
      ptx::pin(product);
      ptx::pin(probabilities);
      pipeline.release_value();
      add_product(out, product, carry);
      carry[0] = correction[0] * (unit / next_unit), carry[1] = correction[1] * (unit / next_unit);
      unit = next_unit;
      pack_probabilities(scores, probabilities);
    }

    pipeline.wait_value();
    Parts::issue_values(product, probabilities);
    ptx::wgmma_wait<0>();
    ptx::pin(product);
    pipeline.release_value();
    add_product(out, product, carry);
    rescale_rows(out, {unit, unit});
    Parts::epilogue(work).store(out, softmax, pipeline.shared.staging());
    pipeline.release_query();
  }

 private:
  // The softmax's factor for the two rows of this lane, without the scale of the keys. Rows past the queries are zero.
  __device__ void load_row_factors(float (&row_factor)[2], const Work& work) const {
    const float* scale =
        params.query_scale + (static_cast<int64_t>(work.batch) * params.heads + work.head) * params.queries;
    const int first = work.query_tile * T::kRows + pipeline.group * 64 + pipeline.thread / kWarp * 16;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first + ptx::accumulator_row(pipeline.lane(), 2 * i);
      row_factor[i] = row < params.queries ? scale[row] * params.factor : 1.0f;
    }
  }

  __device__ static void set_factor(float (&factor)[2], const float (&row_factor)[2], float key_scale) {
    factor[0] = row_factor[0] * key_scale, factor[1] = row_factor[1] * key_scale;
  }

  __device__ static void add_product(float (&out)[kOut], const float (&product)[kOut], const float (&carry)[2]) {
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = fmaf(out[i], carry[i / 2 % 2], product[i]);
  }
};

}  // namespace hunyuan::attention::sm90
