// Attention forward with mma.sync and cp.async: FlashAttention-2's schedule (arXiv 2307.08691). One thread block a
// query tile; the values of a tile are copied while its scores are computed, the next keys while the values are used.
#pragma once

#include <cuda_bf16.h>

#include "attention/cuda/softmax.cuh"
#include "attention/schedule.h"
#include "attention/sm80/tile.h"
#include "common/cuda/launch.cuh"
#include "common/ptx/mma.cuh"
#include "common/ptx/registers.cuh"
#include "common/ptx/shared_memory.cuh"
#include "hunyuan/attention.h"

namespace hunyuan::attention::sm80 {

template <class T>
struct Block {
  static constexpr int kScores = T::kKeys / 2, kOut = T::kHeadDim / 2;  // accumulators of a lane and row tile

  static constexpr uint32_t kRowTileBytes = 16 * ptx::kPanelBytes;

  const hunyuan_attention_args& args;
  const Work work;
  const int keys;        // valid ones of this sample
  const uint32_t query;  // shared address; the key and value tiles follow

  float out[T::kRowTiles][kOut];
  RowSoftmax<> softmax[T::kRowTiles];

  __device__ void run(KeyTiles& tiles, const float (&factor)[2]) {
#pragma unroll
    for (int t = 0; t < T::kRowTiles; ++t)
#pragma unroll
      for (int i = 0; i < kOut; ++i) out[t][i] = 0.0f;
    copy_tile<T::kRows>(args.q, args.q_stride, query, work.query_tile * T::kRows, static_cast<int>(args.queries));
    copy_keys(tiles.tile);
    step<true>(tiles, factor);
    while (tiles.left > 0) step<false>(tiles, factor);
    store();
  }

  // Without keys: zeros, and minus infinity as log-sum-exp.
  __device__ void store_nothing() const {
    for (int i = threadIdx.x; i < T::kRows * T::kRowChunks; i += T::kThreads)
      store_chunk(i / T::kRowChunks, i % T::kRowChunks, make_uint4(0, 0, 0, 0));
    for (int row = threadIdx.x; row < T::kRows; row += T::kThreads) store_lse(row, -CUDART_INF_F);
  }

 private:
  // Small values are recomputed where they are needed: the accumulators take nearly all registers.
  __device__ static int lane() { return ptx::computed_here(threadIdx.x % 32); }
  __device__ static int first_row(int t) { return (ptx::computed_here(threadIdx.x / 32) * T::kRowTiles + t) * 16; }
  __device__ uint32_t key() const { return query + T::kQueryBytes; }
  __device__ uint32_t value() const { return key() + T::kKeyBytes; }

  template <bool kFirst>
  __device__ void step(KeyTiles& tiles, const float (&factor)[2]) {
    float scores[T::kRowTiles][kScores];
    uint32_t probabilities[T::kRowTiles][kScores / 2];
    ptx::copies_wait();
    __syncthreads();  // the keys have landed, and nobody reads the values any more
    copy_tile<T::kKeys>(args.v, args.v_stride, value(), tiles.tile * T::kKeys, keys);
    multiply_query_key(scores);
#pragma unroll
    for (int t = 0; t < T::kRowTiles; ++t) {
      if constexpr (kFirst) {
        const int valid = keys - tiles.tile * T::kKeys;
        if (valid < T::kKeys) mask_columns(scores[t], valid, lane());
        softmax[t].first(scores[t], factor);
      } else {
        float correction[2];
        softmax[t].next(scores[t], factor, correction);
        rescale_rows(out[t], correction);
      }
      pack_probabilities(scores[t], probabilities[t]);
      ptx::pin(probabilities[t]);
    }
    ptx::copies_wait();
    __syncthreads();  // the values have landed, and nobody reads the keys any more
    tiles.next();
    if (tiles.left > 0) copy_keys(tiles.tile);
    multiply_probability_value(probabilities);
  }

  __device__ void copy_keys(int tile) const {
    copy_tile<T::kKeys>(args.k, args.k_stride, key(), tile * T::kKeys, keys);
  }

  // Rows [first, first + kRows) of a tensor [batch, tokens, heads, head_dim] into a tile; zeros from row `end` on.
  template <int kRows>
  __device__ void copy_tile(const void* tensor, const int64_t (&stride)[3], uint32_t tile, int first, int end) const {
    constexpr int kRowsPerPass = T::kThreads / T::kRowChunks;
    static_assert(kRows % kRowsPerPass == 0 && kRowsPerPass % ptx::kAtomRows == 0, "passes keep the swizzle phase");
    const unsigned chunk = threadIdx.x % T::kRowChunks, row_in_tile = threadIdx.x / T::kRowChunks;
    const int row = first + static_cast<int>(row_in_tile);
    const auto* from = static_cast<const __nv_bfloat16*>(tensor) + ptx::computed_here(work.batch) * stride[0] +
                       ptx::computed_here(work.head) * stride[2] + row * stride[1] + chunk * (ptx::kChunkBytes / 2);
    const uint32_t to = tile + ptx::tile_offset(kRows, row_in_tile, chunk * ptx::kChunkBytes);
#pragma unroll 4
    for (int pass = 0; pass < kRows / kRowsPerPass; ++pass, from += kRowsPerPass * stride[1])
      ptx::copy16(to + pass * kRowsPerPass * ptx::kPanelBytes, from, row + pass * kRowsPerPass < end);
    ptx::copies_commit();
  }

  // scores = Q K^T, 16 of head_dim at a time; each fragment of K serves all row tiles.
  __device__ void multiply_query_key(float (&scores)[T::kRowTiles][kScores]) const {
#pragma unroll
    for (int t = 0; t < T::kRowTiles; ++t)
#pragma unroll
      for (int i = 0; i < kScores; ++i) scores[t][i] = 0.0f;
    const int here = lane();
    const ptx::MatrixRow from_query = ptx::load_a(here), from_key = ptx::load_b_k_contiguous(here);
    const uint32_t query_row = query + ptx::tile_offset(T::kRows, first_row(0) + from_query.row, 2 * from_query.column);
    const uint32_t key_row = key() + ptx::tile_offset(T::kKeys, from_key.row, 2 * from_key.column);
#pragma unroll 4  // fully, so many fragments are loaded ahead that accumulators are spilled
    for (int k = 0; k < T::kHeadDim; k += 16) {
      uint32_t a[T::kRowTiles][4];
#pragma unroll
      for (int t = 0; t < T::kRowTiles; ++t)
        ptx::load_matrices(a[t], ptx::along_row(query_row, 2 * k, T::kRows * ptx::kPanelBytes) + t * kRowTileBytes);
#pragma unroll
      for (int n = 0; n < T::kKeys; n += 16) {
        uint32_t b[4];
        ptx::load_matrices(b, ptx::along_row(key_row, 2 * k, T::kKeys * ptx::kPanelBytes) + n * ptx::kPanelBytes);
#pragma unroll
        for (int t = 0; t < T::kRowTiles; ++t) {
          ptx::mma_bf16(scores[t] + n / 2, a[t], b);
          ptx::mma_bf16(scores[t] + n / 2 + 4, a[t], b + 2);
        }
      }
    }
  }

  // out += P V, 16 keys at a time; each fragment of V serves all row tiles.
  __device__ void multiply_probability_value(const uint32_t (&probabilities)[T::kRowTiles][kScores / 2]) {
    const ptx::MatrixRow from_value = ptx::load_b_n_contiguous(lane());
    const uint32_t value_row = value() + ptx::tile_offset(T::kKeys, from_value.row, 2 * from_value.column);
#pragma unroll
    for (int k = 0; k < T::kKeys; k += 16) {
#pragma unroll
      for (int n = 0; n < T::kHeadDim; n += 16) {
        uint32_t b[4];
        ptx::load_matrices_transposed(
            b, ptx::along_row(value_row, 2 * n, T::kKeys * ptx::kPanelBytes) + k * ptx::kPanelBytes);
#pragma unroll
        for (int t = 0; t < T::kRowTiles; ++t) {
          ptx::mma_bf16(out[t] + n / 2, probabilities[t] + k / 4, b);
          ptx::mma_bf16(out[t] + n / 2 + 4, probabilities[t] + k / 4, b + 2);
        }
      }
    }
  }

  // Normalizes, stages the warp's rows in its own rows of the query tile, and stores whole rows.
  __device__ void store() {
    const int lane = this->lane();
#pragma unroll
    for (int t = 0; t < T::kRowTiles; ++t) {
      float inverse[2];
      softmax[t].finish(inverse);
      rescale_rows(out[t], inverse);
#pragma unroll
      for (int i = 0; i < kOut; i += 2)
        ptx::store_shared(query + ptx::tile_offset(T::kRows, first_row(t) + ptx::accumulator_row(lane, i),
                                                   2 * ptx::accumulator_column(lane, i)),
                          ptx::pack_bf16(out[t][i], out[t][i + 1]));
      if (lane % 4 == 0) {
        store_lse(first_row(t) + lane / 4, softmax[t].log_sum_exp(0));
        store_lse(first_row(t) + lane / 4 + 8, softmax[t].log_sum_exp(1));
      }
    }
    __syncwarp();
    for (int i = lane; i < 16 * T::kRowTiles * T::kRowChunks; i += 32) {
      const int row = first_row(0) + i / T::kRowChunks, chunk = i % T::kRowChunks;
      store_chunk(row, chunk, ptx::load_shared16(query + ptx::tile_offset(T::kRows, row, chunk * ptx::kChunkBytes)));
    }
  }

  __device__ void store_chunk(int row_in_tile, int chunk, uint4 value) const {
    const int64_t row = work.query_tile * T::kRows + row_in_tile;
    if (row >= args.queries) return;
    auto* to = static_cast<__nv_bfloat16*>(args.out) + work.batch * args.out_stride[0] + row * args.out_stride[1] +
               work.head * args.out_stride[2];
    reinterpret_cast<uint4*>(to)[chunk] = value;
  }

  __device__ void store_lse(int row_in_tile, float value) const {
    const int64_t row = work.query_tile * T::kRows + row_in_tile;
    if (args.lse && row < args.queries) args.lse[(work.batch * args.heads + work.head) * args.queries + row] = value;
  }
};

template <class T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocksPerProcessor)
    attention_kernel(const __grid_constant__ hunyuan_attention_args args, const float factor) {
  const Schedule schedule{static_cast<int>(args.batch), static_cast<int>(args.heads),
                          ceil_div(static_cast<int>(args.queries), T::kRows)};
  const Work work = schedule[blockIdx.x];
  const int keys = valid_keys(args.kv_len, work.batch, static_cast<int>(args.keys));
  KeyTiles tiles = all_key_tiles(keys, T::kKeys);
  if constexpr (T::kBlockMask)
    tiles =
        mask_key_tiles(args.row_starts, args.key_blocks, work.query_tile, static_cast<int>(args.query_tile / T::kRows),
                       static_cast<int>(args.key_tile / T::kKeys), keys, T::kKeys);
  Block<T> block{args, work, keys, ptx::aligned_address(device::dynamic_shared(), ptx::kAtomBytes)};
  if (tiles.left == 0) return block.store_nothing();
  block.run(tiles, {factor, factor});
}

}  // namespace hunyuan::attention::sm80
