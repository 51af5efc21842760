// What the Hopper kernels get at launch, by value.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <stdint.h>

#include <type_traits>

#include "attention/schedule.h"

namespace hunyuan::attention::sm90 {

struct Params {
  CUtensorMap query, key, value;       // [head_dim, tokens, heads, batch], innermost first
  CUtensorMap key_piece, value_piece;  // the same in boxes of kPieceKeys, for tiles of a block mask that lie apart
  __nv_bfloat16* out;                  // [batch, queries, heads, head_dim] through strides
  int64_t out_batch_stride, out_token_stride, out_head_stride;
  float* lse;                 // [batch, heads, queries] or null
  const int32_t* kv_len;      // [batch] or null
  const int32_t* row_starts;  // block mask, or null
  const int32_t* key_blocks;
  int tiles_per_row;    // query tiles of the kernel in a row of the mask
  int tiles_per_block;  // key tiles of the kernel in a block of the mask (FP8)
  int block_keys;       // keys in a block of the mask
  int batch, heads, queries, keys;
  float factor;  // of the scores: scale * log2(e)
};

// FP8: e4m3 query and key tiles as above, value as [keys, head_dim, heads, batch] with its keys renamed (fragment.h).
struct Fp8Params : Params {
  const float* query_scale;  // [batch, heads, queries]: real value = code * scale
  const float* key_scale;    // [batch, heads, blocks]: of each key tile
  const float* value_scale;  // [batch, heads, blocks]
  const float* lse_shift;    // [batch, heads, queries]: scale * q . mean(k), taken out of every score of a row
};

template <class T>
using ParamsOf = std::conditional_t<T::kFp8, Fp8Params, Params>;

// The tile of this block: the schedule counts clusters, whose blocks take neighboring query tiles of one head. The
// last tile of an odd number is past the queries; its block loads its share of the keys and stores nothing.
template <class T>
__device__ Work work_of(const Schedule& schedule, int index, int rank) {
  Work work = schedule[index];
  work.query_tile = work.query_tile * T::kCluster + rank;
  return work;
}

__device__ inline MaskKeys keys_of(const Params& params, const Work& work) {
  return mask_keys(params.row_starts, params.key_blocks, work.query_tile / params.tiles_per_row, params.block_keys,
                   valid_keys(params.kv_len, work.batch, params.keys));
}

// Keys that the queries of a tile attend to.
template <class T>
__device__ int attended_keys(const Params& params, const Work& work) {
  if constexpr (T::kBlockMask)
    return keys_of(params, work).count;
  else
    return valid_keys(params.kv_len, work.batch, params.keys);
}

// The tiles of them, of FP8 in the numbers of all key tiles, which have scales.
template <class T>
__device__ KeyTiles key_tiles(const Params& params, const Work& work) {
  if constexpr (T::kBlockMask && T::kFp8)
    return mask_key_tiles(params.row_starts, params.key_blocks, work.query_tile, params.tiles_per_row,
                          params.tiles_per_block, valid_keys(params.kv_len, work.batch, params.keys), T::kKeys);
  else
    return all_key_tiles(attended_keys<T>(params, work), T::kKeys);
}

}  // namespace hunyuan::attention::sm90
