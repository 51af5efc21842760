// float8_e4m3fn on the device: quantization with a scale, four or eight values at a time.
#pragma once

#include <cuda_fp8.h>
#include <stdint.h>

#include "common/cuda/cuda.cuh"

namespace hunyuan::device {

constexpr float kE4m3Most = 448.0f;  // largest finite float8_e4m3fn

// The scale of values whose largest magnitude is `amax`: value = code * scale. All zeros get 1; the scale of tiny
// values stays normal, so that its inverse is finite.
__device__ inline float e4m3_scale(float amax) {
  return amax > 0.0f ? fmaxf(amax * (1.0f / kE4m3Most), 1.17549435e-38f) : 1.0f;
}

// Two values, already divided by their scale, to nearest; larger than 448 becomes 448.
__device__ inline uint16_t e4m3_pair(float low, float high) {
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
}

__device__ inline uint32_t e4m3_quad(const float* values, float inverse_scale) {
  return e4m3_pair(values[0] * inverse_scale, values[1] * inverse_scale) |
         static_cast<uint32_t>(e4m3_pair(values[2] * inverse_scale, values[3] * inverse_scale)) << 16;
}

// Stores `kCount` values divided by the scale at out[0..kCount): 8, 4 or 1.
template <int kCount>
__device__ void store_e4m3(uint8_t* out, const float* values, float inverse_scale) {
  static_assert(kCount == 8 || kCount == 4 || kCount == 1, "packs of 16 bytes hold 8 or 4 values, narrow ones 1");
  if constexpr (kCount == 8)
    *reinterpret_cast<uint2*>(out) = make_uint2(e4m3_quad(values, inverse_scale), e4m3_quad(values + 4, inverse_scale));
  else if constexpr (kCount == 4)
    *reinterpret_cast<uint32_t*>(out) = e4m3_quad(values, inverse_scale);
  else
    *out = static_cast<uint8_t>(e4m3_pair(values[0] * inverse_scale, 0.0f));
}

}  // namespace hunyuan::device
