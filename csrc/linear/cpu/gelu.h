// GELU in its tanh form, as the end of a product.
#pragma once

#include "common/simd/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

// x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3): x / 2 (1 + tanh(u)).
template <class Out>
inline Vec gelu(Vec x) {
  const Vec u = x * fma(x * x, set(-0.0713548163f), set(-1.59576912f));  // -2 u
  return over_one_plus<Out>(x, exp_as<Out>(u));
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
