// `Vec`: a register of float32 lanes, the same code for scalar, AVX2 and AVX-512 builds of a kernel.
//
// A kernel source is compiled once per level with that level's flags. Nothing in such a file may have external
// linkage except its own entry points: an inline function from a C++ header, compiled with AVX-512 and chosen by the
// linker, would crash an AVX2 machine. Hence: C headers only, everything below is in an unnamed namespace.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(HUNYUAN_LEVEL_AVX2) || defined(HUNYUAN_LEVEL_AVX512)
#include <immintrin.h>
#endif

#if defined(HUNYUAN_LEVEL_AVX512)
#define HUNYUAN_LEVEL avx512
#elif defined(HUNYUAN_LEVEL_AVX2)
#define HUNYUAN_LEVEL avx2
#else
#define HUNYUAN_LEVEL scalar
#endif

namespace hunyuan {

struct bf16 {
  uint16_t bits;  // the upper half of a float32
};
static_assert(sizeof(bf16) == 2, "bf16 must be two bytes");

}  // namespace hunyuan

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline void from_float(float x, float* out) { *out = x; }
inline void from_float(float x, bf16* out) {  // round to nearest even, NaN stays NaN
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    out->bits = static_cast<uint16_t>((bits >> 16) | 0x40u);
    return;
  }
  out->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if defined(HUNYUAN_LEVEL_AVX512)

struct Vec {
  __m512 lanes;
  static constexpr int64_t width = 16;
};

inline Vec set(float x) { return {_mm512_set1_ps(x)}; }
inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.lanes, b.lanes)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.lanes, b.lanes)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.lanes, b.lanes)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.lanes, b.lanes)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.lanes, b.lanes, c.lanes)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.lanes, b.lanes)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.lanes, b.lanes)}; }
inline float sum(Vec a) { return _mm512_reduce_add_ps(a.lanes); }
// (a0 b0 - c0, a1 b1 + c1, ...): the sum of a rotation of pairs.
inline Vec fma_subtract_even(Vec a, Vec b, Vec c) { return {_mm512_fmaddsub_ps(a.lanes, b.lanes, c.lanes)}; }
inline Vec swap_pairs(Vec a) { return {_mm512_permute_ps(a.lanes, 0xB1)}; }
inline Vec round_nearest(Vec a) { return {_mm512_roundscale_ps(a.lanes, 8)}; }
inline Vec rough_inverse(Vec a) { return {_mm512_rcp14_ps(a.lanes)}; }
inline Vec times_power_of_two(Vec a, Vec n) { return {_mm512_scalef_ps(a.lanes, n.lanes)}; }

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
// bfloat16 in the upper half of each lane, below it anything.
inline __m512i narrow_upper(__m512 x) {
  const __m512i quiet = _mm512_set1_epi32(0x33);  // NaN becomes the default one, which rounding cannot overflow
  const __m512i bits = _mm512_castps_si512(_mm512_fixupimm_ps(x, x, quiet, 0));
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __m512i raised = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  return _mm512_mask_add_epi32(raised, odd, raised, _mm512_set1_epi32(1));
}
#if defined(__AVX512BF16__)  // also rounds to nearest even, but subnormal numbers to zero
inline __m256i narrow(__m512 x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }
#else
inline __m256i narrow(__m512 x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(narrow_upper(x), 16)); }
#endif

// Of 32 values those at even places as the first register, at odd places as the second: an instruction each.
inline void split_even_odd(const bf16* p, Vec& even, Vec& odd) {
  const __m512i both = _mm512_loadu_si512(p);
  even.lanes = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
  odd.lanes = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}
inline void join_even_odd(bf16* p, Vec even, Vec odd) {
  const __m512i low = _mm512_srli_epi32(narrow_upper(even.lanes), 16);
  _mm512_storeu_si512(p, _mm512_mask_blend_epi16(0xaaaaaaaau, low, narrow_upper(odd.lanes)));
}

inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vec load(const bf16* p) { return {widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
inline Vec load_first(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
inline Vec load_first(const bf16* p, int64_t n) { return {widen(_mm256_maskz_loadu_epi16(first_lanes(n), p))}; }
inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.lanes); }
inline void store(bf16* p, Vec a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a.lanes)); }
inline void store_first(float* p, Vec a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.lanes); }
inline void store_first(bf16* p, Vec a, int64_t n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow(a.lanes)); }

#elif defined(HUNYUAN_LEVEL_AVX2)

struct Vec {
  __m256 lanes;
  static constexpr int64_t width = 8;
};

inline Vec set(float x) { return {_mm256_set1_ps(x)}; }
inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.lanes, b.lanes)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.lanes, b.lanes)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.lanes, b.lanes)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.lanes, b.lanes)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.lanes, b.lanes, c.lanes)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.lanes, b.lanes)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.lanes, b.lanes)}; }
inline float sum(Vec a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.lanes), _mm256_extractf128_ps(a.lanes, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline Vec fma_subtract_even(Vec a, Vec b, Vec c) { return {_mm256_fmaddsub_ps(a.lanes, b.lanes, c.lanes)}; }
inline Vec swap_pairs(Vec a) { return {_mm256_permute_ps(a.lanes, 0xB1)}; }
inline Vec rough_inverse(Vec a) {  // 12 bits, and a step of Newton's
  const __m256 first = _mm256_rcp_ps(a.lanes);
  return {_mm256_mul_ps(first, _mm256_fnmadd_ps(a.lanes, first, _mm256_set1_ps(2.0f)))};
}
inline Vec round_nearest(Vec a) { return {_mm256_round_ps(a.lanes, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec times_power_of_two(Vec a, Vec n) {  // n in [-126, 127]
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.lanes), _mm256_set1_epi32(127)), 23);
  return {_mm256_mul_ps(a.lanes, _mm256_castsi256_ps(exponent))};
}

inline __m256i narrow_upper(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan);
}
inline __m128i narrow(__m256 x) {
  const __m256i upper = _mm256_srli_epi32(narrow_upper(x), 16);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08));
}
inline __m256 widen(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
inline void split_even_odd(const bf16* p, Vec& even, Vec& odd) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  even.lanes = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
  odd.lanes = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}
inline void join_even_odd(bf16* p, Vec even, Vec odd) {
  const __m256i low = _mm256_srli_epi32(narrow_upper(even.lanes), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_blend_epi16(low, narrow_upper(odd.lanes), 0xaa));
}

inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Vec load(const bf16* p) { return {widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a.lanes); }
inline void store(bf16* p, Vec a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(a.lanes)); }

#else

struct Vec {
  float lanes[4];
  static constexpr int64_t width = 4;
};

template <class Function>
inline Vec each_lane(Function function) {
  Vec out;
  for (int i = 0; i < 4; ++i) out.lanes[i] = function(i);
  return out;
}

inline Vec set(float x) { return {{x, x, x, x}}; }
inline Vec operator+(Vec a, Vec b) {
  return each_lane([&](int i) { return a.lanes[i] + b.lanes[i]; });
}
inline Vec operator-(Vec a, Vec b) {
  return each_lane([&](int i) { return a.lanes[i] - b.lanes[i]; });
}
inline Vec operator*(Vec a, Vec b) {
  return each_lane([&](int i) { return a.lanes[i] * b.lanes[i]; });
}
inline Vec operator/(Vec a, Vec b) {
  return each_lane([&](int i) { return a.lanes[i] / b.lanes[i]; });
}
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec min(Vec a, Vec b) {
  return each_lane([&](int i) { return a.lanes[i] < b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
}
inline Vec max(Vec a, Vec b) {
  return each_lane([&](int i) { return a.lanes[i] > b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
}
inline float sum(Vec a) { return (a.lanes[0] + a.lanes[2]) + (a.lanes[1] + a.lanes[3]); }
inline Vec fma_subtract_even(Vec a, Vec b, Vec c) {
  return each_lane(
      [&](int i) { return i % 2 ? a.lanes[i] * b.lanes[i] + c.lanes[i] : a.lanes[i] * b.lanes[i] - c.lanes[i]; });
}
inline Vec swap_pairs(Vec a) { return {{a.lanes[1], a.lanes[0], a.lanes[3], a.lanes[2]}}; }
inline Vec rough_inverse(Vec a) { return set(1.0f) / a; }
inline Vec round_nearest(Vec a) {
  return each_lane([&](int i) { return __builtin_rintf(a.lanes[i]); });
}
inline Vec times_power_of_two(Vec a, Vec n) {  // n in [-126, 127]
  return each_lane([&](int i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n.lanes[i]) + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return a.lanes[i] * power;
  });
}

template <class T>
inline Vec load(const T* p) {
  return each_lane([&](int i) { return to_float(p[i]); });
}
template <class T>
inline void store(T* p, Vec a) {
  for (int i = 0; i < 4; ++i) from_float(a.lanes[i], p + i);
}
inline void split_even_odd(const bf16* p, Vec& even, Vec& odd) {
  even = each_lane([&](int i) { return to_float(p[2 * i]); });
  odd = each_lane([&](int i) { return to_float(p[2 * i + 1]); });
}
inline void join_even_odd(bf16* p, Vec even, Vec odd) {
  for (int i = 0; i < 4; ++i) from_float(even.lanes[i], p + 2 * i), from_float(odd.lanes[i], p + 2 * i + 1);
}

#endif

// Twice as many values. Which of them are in which register depends on T, and is the same for every load and store.
struct Two {
  Vec first, second;
  static constexpr int64_t width = 2 * Vec::width;
};
inline Two load_two(const float* p) { return {load(p), load(p + Vec::width)}; }
inline Two load_two(const bf16* p) {
  Two out;
  split_even_odd(p, out.first, out.second);
  return out;
}
inline void store_two(float* p, Two a) { store(p, a.first), store(p + Vec::width, a.second); }
inline void store_two(bf16* p, Two a) { join_even_odd(p, a.first, a.second); }
inline Two operator+(Two a, Two b) { return {a.first + b.first, a.second + b.second}; }
inline Two operator+(Two a, Vec b) { return {a.first + b, a.second + b}; }
inline Two operator-(Two a, Vec b) { return {a.first - b, a.second - b}; }
inline Two operator*(Two a, Vec b) { return {a.first * b, a.second * b}; }
inline Two fma(Two a, Two b, Two c) { return {fma(a.first, b.first, c.first), fma(a.second, b.second, c.second)}; }

#if !defined(HUNYUAN_LEVEL_AVX512)
// The tail of a row: n < width lanes, the others are zero.
template <class T>
inline Vec load_first(const T* p, int64_t n) {
  T lanes[Vec::width] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <class T>
inline void store_first(T* p, Vec a, int64_t n) {
  T lanes[Vec::width];
  store(lanes, a);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
#endif

// Calls step(i, part) for i = 0, width, 2 width, ...; part is Full, or Tail for what is left at the end of the row.
// Its type picks the load and store below, so that only the last call pays for a partial register.
struct Full {};
struct Tail {
  int64_t count;
};

template <class Step>
inline void for_each_vec(int64_t length, Step step) {
  int64_t i = 0;
  for (; i + Vec::width <= length; i += Vec::width) step(i, Full{});
  if (i < length) step(i, Tail{length - i});
}

template <class T>
inline Vec load(const T* p, Full) {
  return load(p);
}
template <class T>
inline Vec load(const T* p, Tail tail) {
  return load_first(p, tail.count);
}
template <class T>
inline void store(T* p, Vec a, Full) {
  store(p, a);
}
template <class T>
inline void store(T* p, Vec a, Tail tail) {
  store_first(p, a, tail.count);
}

// Zero in the lanes past the tail.
inline Vec keep(Vec a, Tail tail) {
  float lanes[Vec::width];
  store(lanes, a);
  for (int64_t i = tail.count; i < Vec::width; ++i) lanes[i] = 0.0f;
  return load(static_cast<const float*>(lanes));
}

inline Vec keep(Vec a, Full) { return a; }

// The sum of term(i, part) over a row. Four running sums: the adds overlap, and each collects fewer roundings.
template <class Term>
inline float sum_terms(int64_t length, Term term) {
  constexpr int64_t step = 4 * Vec::width;
  Vec sums[4] = {set(0.0f), set(0.0f), set(0.0f), set(0.0f)};
  int64_t i = 0;
  for (; i + step <= length; i += step)
    for (int k = 0; k < 4; ++k) sums[k] = sums[k] + term(i + k * Vec::width, Full{});
  for (; i + Vec::width <= length; i += Vec::width) sums[0] = sums[0] + term(i, Full{});
  if (i < length) sums[1] = sums[1] + keep(term(i, Tail{length - i}), Tail{length - i});
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// exp(x), at most 2 ulp off for x in [-87, 88]; clamped outside. Cody-Waite reduction, degree-6 polynomial.
inline Vec exp(Vec x) {
  x = min(max(x, set(-87.0f)), set(88.0f));
  const Vec n = round_nearest(x * set(1.44269504088896341f));
  Vec r = fma(n, set(-0.693359375f), x);
  r = fma(n, set(2.12194440e-4f), r);
  Vec p = set(1.9875691500e-4f);
  p = fma(p, r, set(1.3981999507e-3f));
  p = fma(p, r, set(8.3334519073e-3f));
  p = fma(p, r, set(4.1665795894e-2f));
  p = fma(p, r, set(1.6666665459e-1f));
  p = fma(p, r, set(5.0000001201e-1f));
  return times_power_of_two(fma(p, r * r, r + set(1.0f)), n);
}

// For results that are rounded to bfloat16: exp(x) to 3e-6, clamped outside [-87, 88]; NaN stays.
inline Vec rough_exp(Vec x) {
  x = min(set(127.0f), max(set(-126.0f), x * set(1.44269504088896341f)));
  const Vec n = round_nearest(x), r = x - n;
  Vec p = fma(set(9.5828529e-3f), r, set(5.5906426e-2f));
  p = fma(p, r, set(2.4024099e-1f));
  p = fma(p, r, set(6.9312418e-1f));
  return times_power_of_two(fma(p, r, set(1.0f)), n);
}

// z / (1 + e), as exactly as values of type T need; e > 0.
template <class T>
inline Vec over_one_plus(Vec z, Vec e) {
  if constexpr (sizeof(T) == 2) return z * rough_inverse(set(1.0f) + e);
  return z / (set(1.0f) + e);
}
template <class T>
inline Vec exp_as(Vec x) {
  if constexpr (sizeof(T) == 2) return rough_exp(x);
  return exp(x);
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
