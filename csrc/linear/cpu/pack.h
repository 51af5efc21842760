// Weights into tiles: 16 columns of the product times 16 dwords of the summed dimension, dword by dword. E4M3 is
// decoded to bfloat16 on the way, exactly: its scale waits for the sums, unless it changes along a row.
#pragma once

#include <string.h>

#include "common/simd/e4m3_table.h"
#include "common/simd/transpose.h"
#include "linear/cpu/job.h"

namespace hunyuan::avx512 {
namespace {

using linear::Chunk;
using linear::Job;
using linear::kTile;

inline __mmask64 first_bytes(int64_t n) { return n >= 64 ? ~uint64_t{0} : n <= 0 ? 0 : (uint64_t{1} << n) - 1; }

// One tile of rows that are dwords already: `rows` of them, of `bytes` each; the rest are zeros.
inline void pack_plain(const char* source, int64_t stride, int64_t rows, int64_t bytes, char* out) {
  __m512i a[16];
  if (rows == 16 && bytes == 64) {
    for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(source + i * stride);
  } else {
    for (int i = 0; i < 16; ++i)
      a[i] = i < rows ? _mm512_maskz_loadu_epi8(first_bytes(bytes), source + i * stride) : _mm512_setzero_si512();
  }
  transpose_registers(a, reinterpret_cast<uint32_t*>(out));
}

inline __m512i two_rows(__m256i first, __m256i second) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

// The same for codes: `count` of them a row, at most 32.
inline void pack_codes(const DecodeTable& table, const uint8_t* source, int64_t stride, int64_t rows, int64_t count,
                       char* out) {
  __m512i a[16];
  const __mmask32 mask = static_cast<__mmask32>(first_bytes(count));
  for (int i = 0; i < 16; i += 2) {
    const __m256i none = _mm256_setzero_si256();
    const __m256i first = i < rows ? _mm256_maskz_loadu_epi8(mask, source + i * stride) : none;
    const __m256i second = i + 1 < rows ? _mm256_maskz_loadu_epi8(mask, source + (i + 1) * stride) : none;
    table.decode(two_rows(first, second), a + i);
  }
  transpose_registers(a, reinterpret_cast<uint32_t*>(out));
}

constexpr int64_t kAhead = 4;  // tiles: rows are far apart, so the hardware follows them badly across pages

inline void prefetch_rows(const char* source, int64_t stride, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) _mm_prefetch(source + i * stride, _MM_HINT_T0);
}

// Packs 16 columns of the product from `column` on, the chunks of one phase.
inline void pack_column_tile(const Job& job, int64_t column, int64_t phase, char* out) {
  const hunyuan_linear_args& args = *job.args;
  const int64_t rest = args.out_columns - column, rows = rest < 16 ? rest : 16;
  if (rows <= 0) {
    memset(out, 0, static_cast<size_t>(job.packed_stride));
    return;
  }
  const bool codes = args.weight_dtype == HUNYUAN_E4M3;
  const int64_t item = args.weight_dtype == HUNYUAN_BF16 ? 2 : 1, step = args.weight_dtype == HUNYUAN_I8 ? 64 : 32;
  const char* weight = static_cast<const char*>(args.weight) + column * args.weight_row_stride * item;
  const int64_t stride = args.weight_row_stride * item;
  const bool by_block = codes && args.rows_per_scale > 1;
  const float* scale = by_block ? args.weight_scale + column / args.rows_per_scale * args.scale_row_stride : nullptr;
  int64_t scale_in_use = -1;
  DecodeTable table(1.0f);
  for (int64_t c = 0; c < job.chunk_count; ++c) {
    const Chunk& chunk = job.chunks[c];
    if (chunk.phase != phase) continue;
    char* to = out + chunk.packed_offset;
    for (int64_t block = 0; block < chunk.blocks; ++block, to += kTile) {
      const int64_t at = chunk.weight_first + block * step, left = chunk.columns - block * step;
      const int64_t count = left < step ? left : step;
      const char* source = weight + at * item;
      if ((block & 1) == 0 || !codes) prefetch_rows(source + kAhead * 64, stride, rows);
      if (!codes) {
        pack_plain(source, stride, rows, count * item, to);
        continue;
      }
      if (by_block && at / args.columns_per_scale != scale_in_use) {
        scale_in_use = at / args.columns_per_scale;
        table = DecodeTable(scale[scale_in_use]);
      }
      pack_codes(table, reinterpret_cast<const uint8_t*>(source), stride, rows, count, to);
    }
  }
}

}  // namespace
}  // namespace hunyuan::avx512
