// Products of packed blocks in registers: a few rows times two registers of columns, one step along the sum at a time.
#pragma once

#include "attention/cpu/flash.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

// Step adds the products of one 32-bit step: Step::add(sum, row of a broadcast, row of b); kRows fill the registers.
template <class Step, int kRows>
inline __attribute__((always_inline)) void multiply_rows(const Product& product, const char* a, int64_t column,
                                                         float* c) {
  const int64_t a_bytes = product.a_stride * static_cast<int64_t>(sizeof(typename Step::Element));
  Vec sums[kRows][2];
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < 2; ++j) sums[i][j] = set(0.0f);
  const char* b[2];
  for (int j = 0; j < 2; ++j) {
    const int64_t at = column + j * Vec::width;
    b[j] = product.b + at / kPanel * product.panel_stride + at % kPanel * 4;
  }
  for (int64_t block = 0; block < product.blocks; ++block) {
    for (int64_t step = 0; step < 16; ++step) {
      const Vec b0 = load(reinterpret_cast<const float*>(b[0] + step * 64));
      const Vec b1 = load(reinterpret_cast<const float*>(b[1] + step * 64));
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        float pair;
        memcpy(&pair, a + i * a_bytes + (block * 16 + step) * 4, 4);
        const Vec both = set(pair);
        sums[i][0] = Step::add(sums[i][0], both, b0);
        sums[i][1] = Step::add(sums[i][1], both, b1);
      }
    }
    b[0] += product.block_stride, b[1] += product.block_stride;
  }
  // Added as a whole: a running sum over all keys would round once for every key.
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < 2; ++j) {
      float* to = c + i * product.c_stride + j * Vec::width;
      store(to, product.accumulate ? load(to) + sums[i][j] : sums[i][j]);
    }
}

// All rows of a tile; the two columns' blocks stay in the first cache.
template <class Step, int kAtATime, int kRows>
inline void multiply_in_registers(const Product& product) {
  static_assert(kRows % kAtATime == 0, "rows must come in whole groups");
  const int64_t a_bytes = product.a_stride * static_cast<int64_t>(sizeof(typename Step::Element));
  for (int64_t column = 0; column < product.columns; column += 2 * Vec::width)
    for (int64_t row = 0; row < kRows; row += kAtATime)
      multiply_rows<Step, kAtATime>(product, static_cast<const char*>(product.a) + row * a_bytes, column,
                                    product.c + row * product.c_stride + column);
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
