// common/ptx/math.cuh for the emulator.
#pragma once

#include "emulator.h"

namespace hunyuan::ptx {

inline float exp2_fast(float x) { return std::exp2(x); }
inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t packed;
  std::memcpy(&packed, &pair, sizeof packed);
  return packed;
}

}  // namespace hunyuan::ptx
