// RMSNorm and rotary embedding of one head of one token, in float32, and their gradients: shared by the pass before
// attention (qk_norm_rope) and by the packing of the CPU attention.
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

// The gradients. grad: of the result, overwritten. Adds to norm_sums what the token gives to the gradient of the
// weights.
template <class T>
inline void norm_rope_head_backward(float* grad, const T* x, T* out, int64_t dim, const float* weight, const float* cos,
                                    const float* sin, float eps, float* norm_sums) {
  if (cos)
    for (int64_t d = 0; d < dim; d += Vec::width) {
      const Vec g = load(grad + d), turned = swap_pairs(g * load(sin + d));
      store(grad + d, fma_subtract_even(g, load(cos + d), set(0.0f) - turned));
    }
  if (!weight) {
    for (int64_t d = 0; d < dim; d += Vec::width) store(out + d, load(static_cast<const float*>(grad + d)));
    return;
  }
  const float count = static_cast<float>(dim);
  const float squares = sum_terms(dim, [&](int64_t d, auto piece) {
    const Vec value = load(x + d, piece);
    return value * value;
  });
  const Vec inverse = set(1.0f / __builtin_sqrtf(squares / count + eps));
  const Vec shared = set(sum_terms(dim,
                                   [&](int64_t d, auto piece) {
                                     return load(static_cast<const float*>(grad + d), piece) * load(weight + d, piece) *
                                            load(x + d, piece) * inverse;
                                   }) /
                         count);
  for (int64_t d = 0; d < dim; d += Vec::width) {
    const Vec normed = load(x + d) * inverse, g = load(grad + d);
    store(norm_sums + d, fma(g, normed, load(static_cast<const float*>(norm_sums + d))));
    store(out + d, (g * load(weight + d) - normed * shared) * inverse);
  }
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
