// From accumulators to the output: normalize, stage the warp's 16 rows in shared memory, store whole rows.
#pragma once

#include "attention/cuda/softmax.cuh"
#include "attention/schedule.h"
#include "attention/sm90/params.h"
#include "attention/sm90/shared.cuh"

namespace hunyuan::attention::sm90 {

template <class T>
struct Epilogue {
  static constexpr int kChunks = T::kHeadDim * 2 / ptx::kChunkBytes;  // 16-byte chunks of an output row

  const ParamsOf<T>& params;
  const Work& work;
  const int group, thread;

  // `staging` is laid out like a query tile, free of bank conflicts both ways. It may be the query tile itself: a warp
  // only touches the rows that its own products read.
  template <class Softmax>
  __device__ void store(float (&out)[T::kHeadDim / 2], Softmax& softmax, uint32_t staging) const {
    const int lane = thread % kWarp, row_in_tile = group * 64 + thread / kWarp * 16;
    float inverse[2];
    softmax.finish(inverse);
    rescale_rows(out, inverse);
    ptx::named_sync(kGroupBarrier + group, kWarpgroup);  // the group's last product with the query tile is done
#pragma unroll
    for (int i = 0; i < T::kHeadDim / 2; i += 2) {
      const int row = row_in_tile + ptx::accumulator_row(lane, i), column_bytes = 2 * ptx::accumulator_column(lane, i);
      ptx::store_shared(staging + ptx::tile_offset(T::kRows, row, column_bytes), ptx::pack_bf16(out[i], out[i + 1]));
    }
    __syncwarp();
    const int first = work.query_tile * T::kRows + row_in_tile;
#pragma unroll 1
    for (int i = lane; i < 16 * kChunks; i += kWarp) {
      const int row = i / kChunks, column_bytes = i % kChunks * ptx::kChunkBytes;
      const uint4 chunk = ptx::load_shared16(staging + ptx::tile_offset(T::kRows, row_in_tile + row, column_bytes));
      if (first + row < params.queries) *reinterpret_cast<uint4*>(out_row(first + row) + column_bytes) = chunk;
    }
    if (!params.lse || lane % 4 != 0) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first + lane / 4 + 8 * i;
      if (row < params.queries) lse_row()[row] = softmax.log_sum_exp(i) + lse_shift(row);
    }
  }

  // A tile without keys: zeros, and minus infinity as log-sum-exp. Shared memory may already hold the next query.
  __device__ void store_nothing() const {
    const int lane = thread % kWarp, first = work.query_tile * T::kRows + group * 64 + thread / kWarp * 16;
#pragma unroll 1
    for (int i = lane; i < 16 * kChunks; i += kWarp)
      if (first + i / kChunks < params.queries)
        *reinterpret_cast<uint4*>(out_row(first + i / kChunks) + i % kChunks * ptx::kChunkBytes) =
            make_uint4(0, 0, 0, 0);
    if (params.lse && lane < 16 && first + lane < params.queries) lse_row()[first + lane] = -CUDART_INF_F;
  }

 private:
  // What smoothing the keys took from every score of this row.
  __device__ float lse_shift(int row) const {
    if constexpr (T::kFp8)
      return params.lse_shift[(static_cast<int64_t>(work.batch) * params.heads + work.head) * params.queries + row];
    else
      return 0.0f;
  }
  __device__ char* out_row(int row) const {
    return reinterpret_cast<char*>(params.out + work.batch * params.out_batch_stride + row * params.out_token_stride +
                                   work.head * params.out_head_stride);
  }
  __device__ float* lse_row() const {
    return params.lse + (static_cast<int64_t>(work.batch) * params.heads + work.head) * params.queries;
  }
};

}  // namespace hunyuan::attention::sm90
