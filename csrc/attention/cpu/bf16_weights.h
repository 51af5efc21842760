// Weights as bfloat16, with the instructions of AVX512-BF16.
#pragma once

#include "common/simd/simd.h"

namespace hunyuan::avx512 {
namespace {

inline __m512bh store_pair(bf16* out, Vec a, Vec b) {
  const __m512bh pairs = _mm512_cvtne2ps_pbh(b.lanes, a.lanes);
  _mm512_storeu_si512(out, reinterpret_cast<__m512i>(pairs));
  return pairs;
}

// Adds them to `sum` as they were rounded: what rounding takes from a large weight, its share does not lose.
inline Vec store_weight_pair(bf16* out, Vec a, Vec b, Vec sum) {
  const __m512i ones = _mm512_set1_epi16(0x3f80);
  return {_mm512_dpbf16_ps(sum.lanes, store_pair(out, a, b), reinterpret_cast<__m512bh>(ones))};
}

}  // namespace
}  // namespace hunyuan::avx512
