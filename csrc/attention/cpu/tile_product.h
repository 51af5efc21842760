// Products of packed blocks in AMX tile registers, and float32 numbers as sums of three bfloat16 ones.
#pragma once

#include "attention/cpu/pack.h"
#include "common/simd/amx.h"

namespace hunyuan::amx {
namespace {

using namespace hunyuan::avx512;

// 32 rows of a, `blocks` packed blocks deep, and two panels of 16 columns of b. A number of three parts has each part
// in a block of its own.
struct TileOperands {
  const char* a;
  int64_t a_bytes;  // from one row to the next
  int64_t a_part;   // from one part to the next
  const char* b;
  int64_t block_stride;  // bytes from one block to the next along the summed dimension
  int64_t panel_stride;  // bytes from 16 columns to the next 16
  int64_t blocks;
};

// 32 x 32 float32 numbers in memory.
struct TileSums {
  char* at;
  int64_t bytes;  // from one row to the next
  char* right() const { return at + 64; }
  char* below() const { return at + 16 * bytes; }
  char* last() const { return below() + 64; }
};

inline void clear_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void store_sums(const TileSums& c) {
  _tile_stored(0, c.at, c.bytes);
  _tile_stored(1, c.right(), c.bytes);
  _tile_stored(2, c.below(), c.bytes);
  _tile_stored(3, c.last(), c.bytes);
  fence();
}

inline void load_a(const char* a, int64_t a_bytes) {
  _tile_loadd(4, a, a_bytes);
  _tile_loadd(5, a + 16 * a_bytes, a_bytes);
}

inline void load_b(const char* b, int64_t panel_stride) {
  _tile_loadd(6, b, 64);
  _tile_loadd(7, b + panel_stride, 64);
}

inline void multiply_loaded() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// The first products of new sums, in tiles 0 to 3. Each tile's old sum goes to `old` just before: stored at once after
// their last products, all four would wait for those, and the products after them too.
template <bool kAccumulate>
inline __attribute__((always_inline)) void start_sums(const char* a, int64_t a_bytes, const char* b,
                                                      int64_t panel_stride, const TileSums& c, const TileSums& old) {
  _tile_loadd(6, b, 64);
  _tile_loadd(4, a, a_bytes);
  _tile_stored(0, old.at, old.bytes);
  if constexpr (kAccumulate)
    _tile_loadd(0, c.at, c.bytes);
  else
    _tile_zero(0);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, b + panel_stride, 64);
  _tile_stored(1, old.right(), old.bytes);
  if constexpr (kAccumulate)
    _tile_loadd(1, c.right(), c.bytes);
  else
    _tile_zero(1);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a + 16 * a_bytes, a_bytes);
  _tile_stored(2, old.below(), old.bytes);
  if constexpr (kAccumulate)
    _tile_loadd(2, c.below(), c.bytes);
  else
    _tile_zero(2);
  _tile_dpbf16ps(2, 5, 6);
  _tile_stored(3, old.last(), old.bytes);
  if constexpr (kAccumulate)
    _tile_loadd(3, c.last(), c.bytes);
  else
    _tile_zero(3);
  _tile_dpbf16ps(3, 5, 7);
}

// (c +)= a * b into tiles 0 to 3, after what they held went to `old`. kParts = 3: float32 numbers as sums of three.
// Calls beside() after every block: vector instructions there run while the tiles multiply.
template <int kParts, bool kAccumulate, class Beside>
inline __attribute__((always_inline)) void multiply_tiles(const TileOperands& x, const TileSums& c, const TileSums& old,
                                                          const Beside& beside) {
  const char *a = x.a, *b = x.b;
  for (int64_t block = 0; block < x.blocks; ++block, a += 64, b += x.block_stride) {
    const char* b_first = b + (kParts - 1) * kBlockBytes;
    if (block == 0) {
      start_sums<kAccumulate>(a, x.a_bytes, b_first, x.panel_stride, c, old);
    } else {
      load_b(b_first, x.panel_stride);
      load_a(a, x.a_bytes);
      multiply_loaded();
    }
    if constexpr (kParts == 3) {  // a0 b2, a0 b1, a0 b0, a1 b0, a2 b0, a1 b1: the rest is below 2^-24 of the product
      load_b(b + kBlockBytes, x.panel_stride);
      multiply_loaded();
      load_b(b, x.panel_stride);
      multiply_loaded();
      load_a(a + x.a_part, x.a_bytes);
      multiply_loaded();
      load_a(a + 2 * x.a_part, x.a_bytes);
      multiply_loaded();
      load_a(a + x.a_part, x.a_bytes);
      load_b(b + kBlockBytes, x.panel_stride);
      multiply_loaded();
    }
    fence();
    beside();
    fence();
  }
}

// The upper halves of 32 float32 numbers, as bfloat16 in order.
inline void store_upper(bf16* out, Vec a, Vec b) {
  alignas(64) static constexpr uint16_t kUpper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                      33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  _mm512_storeu_si512(out, _mm512_permutex2var_epi16(_mm512_castps_si512(a.lanes), _mm512_load_si512(kUpper),
                                                     _mm512_castps_si512(b.lanes)));
}

// x to eight bits, as float32.
inline Vec to_eight_bits(Vec x) {
  const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(x.lanes), _mm512_set1_epi32(0x8000));
  return {_mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}

// 32 numbers as three rows of bfloat16 that lie `part` elements apart: each what the ones before leave.
inline void store_split(bf16* out, int64_t part, Vec a, Vec b) {
  const Vec a0 = to_eight_bits(a), b0 = to_eight_bits(b);
  store_upper(out, a0, b0);
  a = a - a0, b = b - b0;
  const Vec a1 = to_eight_bits(a), b1 = to_eight_bits(b);
  store_upper(out + part, a1, b1);
  store_upper(out + 2 * part, a - a1, b - b1);
}

// Splits 32 float32 numbers at `x`; infinities have no rest.
inline void split(const float* x, bf16* out, int64_t part) {
  Vec v[2] = {load(x), load(x + 16)};
  constexpr int kInfinite = 0x18;
  const __mmask16 infinite[2] = {_mm512_fpclass_ps_mask(v[0].lanes, kInfinite),
                                 _mm512_fpclass_ps_mask(v[1].lanes, kInfinite)};
  store_split(out, part, v[0], v[1]);
  if (!(infinite[0] | infinite[1])) return;
  for (int64_t i = 0; i < 32; ++i)
    if (infinite[i / 16] >> (i % 16) & 1) out[part + i].bits = out[2 * part + i].bits = 0;
}

template <class In>
inline void pack_split(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid,
                       const Packed& packed) {
  constexpr int kParts = 3;
  const int64_t depth = problem.depth, row = 2 * kParts * depth, part = kPackedKeys * depth;
  alignas(64) float wide[kPackedKeys * kMostDepth];
  alignas(64) bf16 parts[kParts * kPackedKeys * kMostDepth];
  float largest = 0.0f;
  for (int64_t n = 0; n < kPackedKeys; n += kPanel)
    largest = larger(largest, read_keys<In>(problem, sample, head, first + n, valid, wide + n * depth));
  packed.squares[first / kPackedKeys] = largest;
  for (int64_t i = 0; i < part; i += 32) split(wide + i, parts + i, part);
  for (int64_t n = 0; n < kPackedKeys; n += kPanel)
    for (int i = 0; i < kParts; ++i)
      transpose_keys(parts + i * part + n * depth, depth / 2, packed.keys + (first + n) * row + i * kBlockBytes,
                     kParts * kBlockBytes);
  for (int64_t n = 0; n < kPackedKeys; ++n) read_value<In>(problem, sample, head, first + n, valid, wide + n * depth);
  for (int64_t i = 0; i < part; i += 32) split(wide + i, parts + i, part);
  for (int i = 0; i < kParts; ++i)
    pair_rows(parts + i * part, depth, packed.values + first / 32 * 2 * kParts * kBlockBytes + i * kBlockBytes,
              kParts * kBlockBytes, problem.value_stride);
}

}  // namespace
}  // namespace hunyuan::amx
