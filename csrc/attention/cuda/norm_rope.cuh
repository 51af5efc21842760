// RMSNorm weights and rotary embedding of neighboring elements of a head: what the passes before attention share.
#pragma once

#include "common/cuda/cuda.cuh"
#include "hunyuan/types.h"

namespace hunyuan::attention {

template <class W, int kCount>
__device__ void widen(const void* weights, int first, float (&out)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const auto pack = *reinterpret_cast<const device::Pack<W, 4>*>(static_cast<const W*>(weights) + first + i);
#pragma unroll
    for (int e = 0; e < 4; ++e) out[i + e] = device::to_float(pack.element[e]);
  }
}

// Norm weights [first, first + kCount) as float32, whatever their dtype; ones where there are none.
template <int kCount>
__device__ void load_weights(const void* weights, hunyuan_dtype dtype, int first, float (&out)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] = 1.0f;
  if (!weights) return;
  if (dtype == HUNYUAN_F32) widen<float>(weights, first, out);
  if (dtype == HUNYUAN_BF16) widen<__nv_bfloat16>(weights, first, out);
  if (dtype == HUNYUAN_F16) widen<__half>(weights, first, out);
}

// Turns the interleaved pairs (2 i, 2 i + 1) of `y`.
template <int kCount>
__device__ void rotate(float (&y)[kCount], const float (&cos)[kCount], const float (&sin)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 2) {
    const float even = y[i];
    y[i] = even * cos[i] - y[i + 1] * sin[i];
    y[i + 1] = y[i + 1] * cos[i + 1] + even * sin[i + 1];
  }
}

}  // namespace hunyuan::attention
