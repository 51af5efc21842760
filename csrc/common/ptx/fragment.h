// Which element of a matrix a thread holds in which register, for mma.sync m16n8k16 and wgmma m64nNk16 / m64nNk32 (PTX
// ISA, figures "fragment layout"). A warp holds 16 rows; warp w of a warpgroup holds rows 16 w to 16 w + 15.
// Host-callable: tests/cpp/test_fragments.cpp multiplies matrices with these functions.
#pragma once

#include <stdint.h>

#include "common/host/host_device.h"

namespace hunyuan::ptx {

// Accumulator register `i` of a lane: two neighboring columns, then the same columns eight rows down.
HUNYUAN_HOST_DEVICE constexpr int accumulator_row(int lane, int i) { return lane / 4 + i / 2 % 2 * 8; }
HUNYUAN_HOST_DEVICE constexpr int accumulator_column(int lane, int i) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }

// Element `e` (0, 1) of register `r` (0..3) of a 16-bit A operand, 16 x 16.
HUNYUAN_HOST_DEVICE constexpr int operand16_row(int lane, int r) { return lane / 4 + r % 2 * 8; }
HUNYUAN_HOST_DEVICE constexpr int operand16_column(int lane, int r, int e) { return r / 2 * 8 + lane % 4 * 2 + e; }

// Element `e` (0..3) of register `r` (0..3) of an 8-bit A operand, 16 x 32.
HUNYUAN_HOST_DEVICE constexpr int operand8_row(int lane, int r) { return lane / 4 + r % 2 * 8; }
HUNYUAN_HOST_DEVICE constexpr int operand8_column(int lane, int r, int e) { return r / 2 * 16 + lane % 4 * 4 + e; }

// An accumulator becomes a 16-bit A operand without moving between lanes: operand register j of all (4 a k-step of 16
// columns) is the pair of accumulators 2 j, 2 j + 1.
constexpr bool pairs_are_operand16() {
  for (int lane = 0; lane < 32; ++lane)
    for (int j = 0; j < 8; ++j)
      for (int e = 0; e < 2; ++e) {
        if (accumulator_row(lane, 2 * j + e) != operand16_row(lane, j % 4)) return false;
        if (accumulator_column(lane, 2 * j + e) != j / 4 * 16 + operand16_column(lane, j % 4, e)) return false;
      }
  return true;
}
static_assert(pairs_are_operand16(), "packing neighboring accumulators gives the A operand of the next product");

// An 8-bit A operand needs four neighboring columns where an accumulator has two, so the columns are renamed instead:
// operand position p of every 32 columns holds column key_of_position(p), and the rows of the B operand are stored in
// that order. Operand register j of all (4 a k-step) is then made of accumulators accumulator_of_operand8(j, 0..3).
HUNYUAN_HOST_DEVICE constexpr int key_of_position(int p) { return p / 16 * 16 + p % 4 / 2 * 8 + p / 4 % 4 * 2 + p % 2; }
HUNYUAN_HOST_DEVICE constexpr int accumulator_of_operand8(int j, int e) {
  return j / 4 * 16 + j % 4 / 2 * 8 + e / 2 * 4 + j % 2 * 2 + e % 2;
}

constexpr bool renamed_columns_are_operand8() {
  for (int lane = 0; lane < 32; ++lane)
    for (int j = 0; j < 8; ++j)
      for (int e = 0; e < 4; ++e) {
        const int i = accumulator_of_operand8(j, e);
        if (accumulator_row(lane, i) != operand8_row(lane, j % 4)) return false;
        if (accumulator_column(lane, i) != j / 4 * 32 + key_of_position(operand8_column(lane, j % 4, e))) return false;
      }
  return true;
}
static_assert(renamed_columns_are_operand8(), "packing accumulators gives the 8-bit A operand of renamed columns");

// ldmatrix .x4 loads four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
// Where that row starts, for an operand of mma.sync m16n8k16 that lies in memory as ...
struct MatrixRow {
  int row, column;  // column: a multiple of 8
};
// ... A [16][16], K contiguous;
HUNYUAN_HOST_DEVICE constexpr MatrixRow load_a(int lane) { return {lane % 16, lane / 16 * 8}; }
// ... B of two neighboring n8 tiles, [16 n][16 k] with K contiguous (the keys of Q K^T): registers 0, 1 are the first
// tile's, 2, 3 the second's;
HUNYUAN_HOST_DEVICE constexpr MatrixRow load_b_k_contiguous(int lane) {
  return {lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8};
}
// ... the same two tiles as [16 k][16 n] with N contiguous (the values of P V), loaded with .trans.
HUNYUAN_HOST_DEVICE constexpr MatrixRow load_b_n_contiguous(int lane) {
  return {lane / 8 % 2 * 8 + lane % 8, lane / 16 * 8};
}

// Element `e` (0, 1) of register `r` (0, 1) of a 16-bit B operand, 16 k x 8 n.
HUNYUAN_HOST_DEVICE constexpr int operand_b_k(int lane, int r, int e) { return r * 8 + lane % 4 * 2 + e; }
HUNYUAN_HOST_DEVICE constexpr int operand_b_n(int lane) { return lane / 4; }

}  // namespace hunyuan::ptx
