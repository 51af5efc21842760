// Two registers of float32 to bfloat16 in one instruction of AVX512-BF16.
#pragma once

#include "common/simd.h"

namespace hunyuan::avx512 {
namespace {

inline void store_pair(bf16* out, Vec a, Vec b) {
  _mm512_storeu_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b.lanes, a.lanes)));
}

}  // namespace
}  // namespace hunyuan::avx512
