// Rows of float32 or bfloat16 times 16 columns of packed float32 weights: what runs on any processor, without a
// library.
#pragma once

#include "common/simd/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

constexpr int64_t kColumns = 16;  // of packed weights: [steps of the sum][kColumns]
constexpr int kRows = 4;          // that share a pass over the weights
constexpr int64_t kRegisters = kColumns / Vec::width;

struct Sums {
  Vec of[kRows][kRegisters];
};

inline Sums no_sums() {
  Sums sums;
  for (int i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kRegisters; ++j) sums.of[i][j] = set(0.0f);
  return sums;
}

// Writes a row of weights as column `column` of `packed`.
template <class T>
inline void pack_column(const T* weight, int64_t count, int64_t column, float* packed) {
  for (int64_t k = 0; k < count; ++k) packed[k * kColumns + column] = to_float(weight[k]);
}

inline void clear_column(int64_t count, int64_t column, float* packed) {
  for (int64_t k = 0; k < count; ++k) packed[k * kColumns + column] = 0.0f;
}

// sums[i] += rows[i][0..count) times packed[0..count).
template <class T>
inline void add_products(const T* const rows[kRows], int64_t count, const float* packed, Sums& sums) {
  Sums now = sums;
  for (int64_t k = 0; k < count; ++k) {
    Vec weight[kRegisters];
    for (int64_t j = 0; j < kRegisters; ++j) weight[j] = load(packed + k * kColumns + j * Vec::width);
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const Vec x = set(to_float(rows[i][k]));
      for (int64_t j = 0; j < kRegisters; ++j) now.of[i][j] = fma(x, weight[j], now.of[i][j]);
    }
  }
  sums = now;
}

// Calls step(register, column, part) for `columns` columns, at most kColumns.
template <class Step>
inline void for_each_register(int64_t columns, Step step) {
  for_each_vec(columns, [&](int64_t column, auto part) { step(column / Vec::width, column, part); });
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
