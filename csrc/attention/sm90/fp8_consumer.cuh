// A consumer warpgroup: 64 rows of queries against all key tiles of its block, e4m3. The schedule is that of
// consumer.cuh.
//
// The tensor cores accumulate FP8 products in about 22 bits, so the product of each tile of 128 keys goes to
// accumulators of its own and is added to the output in float32. Scales cost nothing in the loop: those of queries (a
// row) and keys (a tile) are part of the softmax's factor; the output is kept in units of the latest value tile's
// scale, and the change of unit is part of the softmax's correction.
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
struct Fp8Consumer {
  static constexpr int kScores = T::kKeys / 2, kOut = T::kHeadDim / 2;  // accumulators of a lane
  static constexpr int kBias = 8;  // probabilities are 0..256: e4m3 has no use for the range above 1 otherwise

  const Fp8Params& params;
  ConsumerPipeline<T> pipeline;

  __device__ void tile(const Work& work) {
    KeyTiles tiles = key_tiles<T>(params, work);
    if (tiles.left == 0) return epilogue(work).store_nothing();

    const int64_t scales =
        (static_cast<int64_t>(work.batch) * params.heads + work.head) * ceil_div(params.keys, T::kKeys);
    const float *key_scale = params.key_scale + scales, *value_scale = params.value_scale + scales;
    float out[kOut], product[kOut], scores[kScores], row_factor[2], factor[2], carry[2] = {1.0f, 1.0f};
    uint32_t probabilities[kScores / 4];
    RowSoftmax<kBias> softmax;
#pragma unroll
    for (int i = 0; i < kOut; ++i) out[i] = 0.0f;
    load_row_factors(row_factor, work);
    float unit = value_scale[tiles.tile];

    set_factor(factor, row_factor, key_scale[tiles.tile]);
    pipeline.wait_query();
    pipeline.wait_key();
    issue_scores(scores);
    ptx::wgmma_wait<0>();
    ptx::pin(scores);
    pipeline.release_key();
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
      issue_scores(scores);
      pipeline.wait_value();
      issue_product(product, probabilities);
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
    issue_product(product, probabilities);
    ptx::wgmma_wait<0>();
    ptx::pin(product);
    pipeline.release_value();
    add_product(out, product, carry);
    rescale_rows(out, {unit, unit});
    epilogue(work).store(out, softmax, pipeline.shared.staging());
    pipeline.release_query();
  }

 private:
  __device__ Epilogue<T> epilogue(const Work& work) const {
    return {params, work, pipeline.group, ptx::computed_here(pipeline.thread)};
  }

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

  // S = Q K^T of this group's rows.
  __device__ void issue_scores(float (&scores)[kScores]) const {
    ptx::pin(scores);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kHeadDim; k += T::kStep)
      ptx::wgmma_e4m3(scores, query_operand<T>(pipeline.shared.query(), pipeline.group, k),
                      key_operand<T>(pipeline.key(), k), k > 0);
    ptx::wgmma_commit();
  }

  // P V of one tile.
  __device__ void issue_product(float (&product)[kOut], uint32_t (&probabilities)[kScores / 4]) const {
    ptx::pin(product);
    ptx::pin(probabilities);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < T::kKeys; k += T::kStep)
      ptx::wgmma_e4m3(product, probabilities + k / 8, value_operand<T>(pipeline.value(), k), k > 0);
    ptx::wgmma_commit();
  }
};

}  // namespace hunyuan::attention::sm90
