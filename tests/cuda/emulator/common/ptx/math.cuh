// common/ptx/math.cuh for the emulator.
#pragma once

#include "emulator.h"

namespace hunyuan::ptx {

inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1.0f / x; }
inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t packed;
  std::memcpy(&packed, &pair, sizeof packed);
  return packed;
}

inline uint32_t pack_e4m3(float a, float b, float c, float d) {
  const uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
  const uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, __NV_E4M3);
  return low | high << 16;
}

inline void e4m3_to_bf16(uint32_t codes, uint32_t& first, uint32_t& second) {
  for (int i = 0; i < 4; ++i) {
    const uint32_t code = codes >> 8 * i & 0xff;
    const uint16_t bits = (code & 0x80) << 8 | (code & 0x7f) << 4;
    __nv_bfloat16 raw;
    std::memcpy(&raw, &bits, 2);
    const __nv_bfloat16 value = __float2bfloat16_rn(__bfloat162float(raw) * 0x1p120f);
    std::memcpy(reinterpret_cast<char*>(i < 2 ? &first : &second) + i % 2 * 2, &value, 2);
  }
}

}  // namespace hunyuan::ptx
