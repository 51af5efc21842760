// float8_e4m3fn codes as float32 lanes: the code's exponent and mantissa, moved into a float16, are the value / 256
// (exponent biases 15 and 7), subnormals included; hardware widens it. 0x7f and 0xff are NaN.
#pragma once

#include "common/simd/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

#if defined(HUNYUAN_LEVEL_AVX512)

inline Vec load_e4m3(const uint8_t* codes) {
  const __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  const __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi16(0x7f));
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
  const __m256i nan =
      _mm256_and_si256(_mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f)), _mm256_set1_epi16(0x7e00));
  const __m256i half = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign), nan);
  return {_mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0f))};
}

#elif defined(HUNYUAN_LEVEL_AVX2)

inline Vec load_e4m3(const uint8_t* codes) {
  const __m128i code = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
  const __m128i magnitude = _mm_and_si128(code, _mm_set1_epi16(0x7f));
  const __m128i sign = _mm_slli_epi16(_mm_and_si128(code, _mm_set1_epi16(0x80)), 8);
  const __m128i nan = _mm_and_si128(_mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7f)), _mm_set1_epi16(0x7e00));
  const __m128i half = _mm_or_si128(_mm_or_si128(_mm_slli_epi16(magnitude, 7), sign), nan);
  return {_mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0f))};
}

#else

inline float e4m3_value(uint8_t code) {
  const int exponent = (code >> 3) & 15, mantissa = code & 7;
  float magnitude = exponent ? (1.0f + mantissa / 8.0f) * 0.015625f : mantissa * 0.001953125f;  // 2^-6, 2^-9
  for (int i = 1; i < exponent; ++i) magnitude *= 2.0f;
  if ((code & 0x7f) == 0x7f) magnitude = __builtin_nanf("");
  return code & 0x80 ? -magnitude : magnitude;
}

struct E4m3Table {
  float value[256];
  E4m3Table() {
    for (int code = 0; code < 256; ++code) value[code] = e4m3_value(static_cast<uint8_t>(code));
  }
};

inline Vec load_e4m3(const uint8_t* codes) {
  static const E4m3Table table;
  return each_lane([&](int i) { return table.value[codes[i]]; });
}

#endif

inline Vec load_e4m3(const uint8_t* codes, Full) { return load_e4m3(codes); }
inline Vec load_e4m3(const uint8_t* codes, Tail tail) {
  uint8_t lanes[Vec::width] = {};
  for (int64_t i = 0; i < tail.count; ++i) lanes[i] = codes[i];
  return load_e4m3(static_cast<const uint8_t*>(lanes));
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
