// Accumulators of a matrix product on their way out. A fragment is what one warp holds of 16 rows x 32 columns: 16
// floats a thread, at the places of ptx::accumulator_row / accumulator_column, for mma.sync and wgmma alike.
// Four lanes (a quad) share a row; they trade registers so that each reads and writes 16 contiguous bytes of memory.
#pragma once

#include <stdint.h>

#include "common/cuda/cuda.cuh"

namespace hunyuan::matmul {

constexpr int kFragmentRows = 16, kFragmentColumns = 32, kFragmentFloats = 16;

// Row (0..7, and 8 more for the second half) and first column of this thread in each 8-column chunk of a fragment.
__device__ inline int lane_row() { return threadIdx.x % 32 / 4; }
__device__ inline int lane_column() { return threadIdx.x % 4 * 2; }

// The 4 x 4 matrix of registers of a quad, transposed: register j of lane i becomes register i of lane j.
__device__ inline void quad_transpose(uint32_t (&r)[4]) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
  uint32_t first = __shfl_xor_sync(0xffffffffu, odd ? r[0] : r[1], 1);
  uint32_t second = __shfl_xor_sync(0xffffffffu, odd ? r[2] : r[3], 1);
  if (odd)
    r[0] = first, r[2] = second;
  else
    r[1] = first, r[3] = second;
  first = __shfl_xor_sync(0xffffffffu, high ? r[0] : r[2], 2);
  second = __shfl_xor_sync(0xffffffffu, high ? r[1] : r[3], 2);
  if (high)
    r[0] = first, r[1] = second;
  else
    r[2] = first, r[3] = second;
}

// Two neighboring 16-bit values in one register.
template <class T>
struct PairOf;
template <>
struct PairOf<__nv_bfloat16> {
  __device__ static uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  __device__ static float2 unpack(uint32_t pair) {
    return __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(pair));
  }
};
template <>
struct PairOf<__half> {
  __device__ static uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  __device__ static float2 unpack(uint32_t pair) { return __half22float2(reinterpret_cast<const __half2&>(pair)); }
};

// Half a fragment (8 rows: `half` 0 or 1) rounded to T and in memory order: this thread's registers are then columns
// 8 q to 8 q + 7 of its row, q = lane % 4.
template <class T>
__device__ void pack_row(const float* d, int half, uint32_t (&r)[4]) {
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk)
    r[chunk] = PairOf<T>::pack(d[chunk * 4 + half * 2], d[chunk * 4 + half * 2 + 1]);
  quad_transpose(r);
}

// Adds a row of memory to half a fragment: the inverse of pack_row. `r`: columns 8 q to 8 q + 7 of this thread's row.
template <class T>
__device__ void add_row(float* d, int half, uint32_t (&r)[4]) {
  quad_transpose(r);
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    const float2 pair = PairOf<T>::unpack(r[chunk]);
    d[chunk * 4 + half * 2] += pair.x;
    d[chunk * 4 + half * 2 + 1] += pair.y;
  }
}

// Columns `column` to `column` + 7 of a row of `columns`, all of them or none; nothing (zeros) where `present` is
// false. Ordinary loads, not __ldg: a residual may be the output, whose other elements this kernel is writing.
template <class T>
__device__ void load8(const T* row, int column, bool present, uint32_t (&r)[4]) {
  uint4 value = make_uint4(0, 0, 0, 0);
  if (present) value = *reinterpret_cast<const uint4*>(row + column);
  r[0] = value.x, r[1] = value.y, r[2] = value.z, r[3] = value.w;
}
template <class T>
__device__ void store8(T* row, int column, bool present, const uint32_t (&r)[4]) {
  if (present) *reinterpret_cast<uint4*>(row + column) = make_uint4(r[0], r[1], r[2], r[3]);
}

}  // namespace hunyuan::matmul
