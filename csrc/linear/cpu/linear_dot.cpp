// The linear layer with dot products of AVX-512: vdpbf16ps adds two products to each sum, vpdpbusd four.
#include "linear/cpu/gemm.h"

namespace hunyuan::avx512dot {
namespace {

using namespace hunyuan::avx512;

struct Bf16Dot {
  using Sums = __m512;
  static constexpr bool kInteger = false, kCorrects = false;
  static Sums zero() { return _mm512_setzero_ps(); }
  static Sums load(const float* p) { return _mm512_load_ps(p); }
  static void store(float* p, Sums sums) { _mm512_store_ps(p, sums); }
  static Sums add(Sums sums, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static Sums correct(Sums sums, const int32_t*) { return sums; }
};

struct Int8Dot {
  using Sums = __m512i;
  static constexpr bool kInteger = true, kCorrects = true;
  static Sums zero() { return _mm512_setzero_si512(); }
  static Sums load(const float* p) { return _mm512_load_si512(p); }
  static void store(float* p, Sums sums) { _mm512_store_si512(p, sums); }
  static Sums add(Sums sums, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(sums, a, b); }
  static Sums correct(Sums sums, const int32_t* by) { return _mm512_sub_epi32(sums, _mm512_load_si512(by)); }
};

template <class Dot>
struct DotProducts {
  struct Scope {
    Scope() {}
  };
  static constexpr bool kInteger = Dot::kInteger, kCorrects = Dot::kCorrects;

  static __m512i add_bytes(__m512i sums, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(sums, a, b); }

  template <class Between>
  static void multiply(const Product& product, Between between) {
    between(kPanel);
    for (int64_t row = 0; row < product.used; row += kRows) multiply_rows(product, row);
  }

 private:
  static constexpr int64_t kRows = 8;  // times two registers of columns: 16 sums hide the latency of the additions

  static void multiply_rows(const Product& product, int64_t row) {
    typename Dot::Sums sums[kRows][2];
    float* c = product.c + row * kPanel;
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t j = 0; j < 2; ++j) {
        sums[i][j] = product.accumulate ? Dot::load(c + i * kPanel + 16 * j) : Dot::zero();
        if (product.correction) sums[i][j] = Dot::correct(sums[i][j], product.correction + 16 * j);
      }
    const char *a = product.a + row * product.a_stride, *b = product.b;
    for (int64_t dword = 0; dword < product.blocks * 16; ++dword, a += 4, b += 64) {
      const __m512i left = _mm512_load_si512(b), right = _mm512_load_si512(b + product.panel_stride);
#pragma GCC unroll 8
      for (int64_t i = 0; i < kRows; ++i) {
        int32_t both;
        memcpy(&both, a + i * product.a_stride, 4);
        const __m512i spread = _mm512_set1_epi32(both);
        sums[i][0] = Dot::add(sums[i][0], spread, left);
        sums[i][1] = Dot::add(sums[i][1], spread, right);
      }
    }
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t j = 0; j < 2; ++j) Dot::store(c + i * kPanel + 16 * j, sums[i][j]);
  }
};

}  // namespace

void linear_bf16(const linear::Job& job, const linear::Task& task, const linear::Scratch& scratch) {
  Gemm<DotProducts<Bf16Dot>>(job, task, scratch).run();
}

void linear_int8(const linear::Job& job, const linear::Task& task, const linear::Scratch& scratch) {
  Gemm<DotProducts<Int8Dot>>(job, task, scratch).run();
}

}  // namespace hunyuan::avx512dot
