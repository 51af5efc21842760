// The linear layer with AMX: 2 x 2 tiles of sums. They multiply for 64 cycles a step; meanwhile the vector units
// complete rows of the block before.
#include "common/simd/amx.h"
#include "linear/cpu/gemm.h"

namespace hunyuan::amx {
namespace {

using namespace hunyuan::avx512;

// Tiles 0 and 1 are the upper 16 rows of sums, 2 and 3 the lower ones; 4 and 5 rows, 6 and 7 columns.
struct Bf16Step {
  static constexpr bool kInteger = false;
  static void upper_left() { _tile_dpbf16ps(0, 4, 6); }
  static void upper_right() { _tile_dpbf16ps(1, 4, 7); }
  static void lower_left() { _tile_dpbf16ps(2, 5, 6); }
  static void lower_right() { _tile_dpbf16ps(3, 5, 7); }
};

struct Int8Step {
  static constexpr bool kInteger = true;
  static void upper_left() { _tile_dpbssd(0, 4, 6); }
  static void upper_right() { _tile_dpbssd(1, 4, 7); }
  static void lower_left() { _tile_dpbssd(2, 5, 6); }
  static void lower_right() { _tile_dpbssd(3, 5, 7); }
};

template <class Step>
struct Tiles {
  using Scope = TileScope;
  static constexpr bool kInteger = Step::kInteger, kCorrects = false;

  template <class Between>
  static void multiply(const Product& product, Between between) {
    product.rows > 16 ? multiply_rows<true>(product, between) : multiply_rows<false>(product, between);
  }

 private:
  template <bool kTall, class Between>
  static void multiply_rows(const Product& product, Between between) {
    const char *a = product.a, *b = product.b;
    float *c = product.c, *c_below = c + 16 * kPanel;
    constexpr int64_t c_bytes = kPanel * 4;
    const int64_t rows_a_step = (kPanel + product.blocks - 1) / product.blocks;
    fence();
    if (product.accumulate) {
      _tile_loadd(0, c, c_bytes);
      _tile_loadd(1, c + 16, c_bytes);
      if constexpr (kTall) {
        _tile_loadd(2, c_below, c_bytes);
        _tile_loadd(3, c_below + 16, c_bytes);
      }
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t block = 0; block < product.blocks; ++block, a += 64, b += kTile) {
      _tile_loadd(6, b, 64);
      _tile_loadd(4, a, product.a_stride);
      Step::upper_left();
      _tile_loadd(7, b + product.panel_stride, 64);
      Step::upper_right();
      if constexpr (kTall) {
        _tile_loadd(5, a + 16 * product.a_stride, product.a_stride);
        Step::lower_left();
        Step::lower_right();
      }
      between(rows_a_step);
    }
    _tile_stored(0, c, c_bytes);
    _tile_stored(1, c + 16, c_bytes);
    if constexpr (kTall) {
      _tile_stored(2, c_below, c_bytes);
      _tile_stored(3, c_below + 16, c_bytes);
    }
    fence();
  }
};

}  // namespace

void linear_bf16(const linear::Job& job, const linear::Task& task, const linear::Scratch& scratch) {
  Gemm<Tiles<Bf16Step>>(job, task, scratch).run();
}

void linear_int8(const linear::Job& job, const linear::Task& task, const linear::Scratch& scratch) {
  Gemm<Tiles<Int8Step>>(job, task, scratch).run();
}

}  // namespace hunyuan::amx
