// Small per-channel vectors (weights, biases) as float32.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "hunyuan/types.h"

namespace hunyuan {

// `count` values of F32 or BF16 as floats; `absent` everywhere for a null pointer.
inline std::vector<float> to_floats(const void* values, hunyuan_dtype dtype, int64_t count, float absent) {
  std::vector<float> out(count, absent);
  if (!values) return out;
  if (dtype == HUNYUAN_F32) {
    std::memcpy(out.data(), values, count * sizeof(float));
    return out;
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(values)[i]) << 16;
    std::memcpy(&out[i], &bits, sizeof bits);
  }
  return out;
}

}  // namespace hunyuan
