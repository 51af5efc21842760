// RMSNorm and rotary embedding of one head of one token, in float32: shared by the pass before attention (qk_norm_rope)
// and by the packing of the CPU attention.
#pragma once

#include "common/simd/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

// weight null: no norm; cos null: no rotation.
template <class In, class Out>
inline void norm_rope_head(const In* x, Out* out, int64_t dim, const float* weight, const float* cos, const float* sin,
                           float eps) {
  Vec inverse = set(1.0f);
  if (weight) {
    const float squares = sum_terms(dim, [&](int64_t d, auto piece) {
      const Vec value = load(x + d, piece);
      return value * value;
    });
    inverse = set(1.0f / __builtin_sqrtf(squares / static_cast<float>(dim) + eps));
  }
  for_each_vec(dim, [&](int64_t d, auto piece) {
    Vec value = load(x + d, piece);
    if (weight) value = value * inverse * load(weight + d, piece);
    if (cos) value = fma_subtract_even(value, load(cos + d, piece), swap_pairs(value) * load(sin + d, piece));
    store(out + d, value, piece);
  });
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
