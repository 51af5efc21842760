// What follows the sums: scales, bias, GELU, gate and residual, a row of 32 columns at a time.
#pragma once

#include "common/simd/simd.h"
#include "linear/cpu/gelu.h"
#include "linear/cpu/job.h"

namespace hunyuan::avx512 {
namespace {

using linear::Job;
using linear::kPanel;
using linear::Scratch;

// A block whose sums are complete.
struct Finished {
  const float* sums = nullptr;  // [rows][kPanel], float32 or int32
  int64_t batch, token;         // of its first row
  int64_t rows;
  int64_t column;    // of out
  int64_t columns;   // at most kPanel
  int64_t offset;    // of the column in the task
  int64_t next = 0;  // row
};

inline void store_row(float* out, Vec a, Vec b, int64_t columns) {
  if (columns == kPanel) return store(out, a), store(out + 16, b);
  store_first(out, a, columns < 16 ? columns : 16);
  if (columns > 16) store_first(out + 16, b, columns - 16);
}

inline void store_row(bf16* out, Vec a, Vec b, int64_t columns) {
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b.lanes, a.lanes));
  if (columns == kPanel) return _mm512_storeu_si512(out, both);
  _mm512_mask_storeu_epi16(out, static_cast<__mmask32>((uint64_t{1} << columns) - 1), both);
}

template <class T>
inline void load_row(const T* p, int64_t columns, Vec out[2]) {
  if (columns == kPanel) {
    out[0] = load(p), out[1] = load(p + 16);
    return;
  }
  out[0] = load_first(p, columns < 16 ? columns : 16);
  out[1] = columns > 16 ? load_first(p + 16, columns - 16) : set(0.0f);
}

// Completes the next row of `block`. Out: bf16 or float.
template <bool kInteger, class Out>
inline void finish_row(const Job& job, const Scratch& scratch, Finished& block) {
  const hunyuan_linear_args& args = *job.args;
  const int64_t row = block.next++;
  const int64_t token = block.token + row;
  Vec v[2];
  if constexpr (kInteger) {
    const float x_scale = args.x_scale[block.batch * args.tokens + token];
    for (int i = 0; i < 2; ++i) {
      const Vec value{_mm512_cvtepi32_ps(_mm512_load_si512(block.sums + row * kPanel + 16 * i))};
      v[i] = fma(value * set(x_scale), load(scratch.scale + block.offset + 16 * i),
                 load(scratch.bias + block.offset + 16 * i));
    }
  } else {
    for (int i = 0; i < 2; ++i)
      v[i] = fma(load(block.sums + row * kPanel + 16 * i), load(scratch.scale + block.offset + 16 * i),
                 load(scratch.bias + block.offset + 16 * i));
  }
  if (block.column >= args.gelu_from)
    for (int i = 0; i < 2; ++i) v[i] = gelu<Out>(v[i]);
  if (args.gate) {
    Vec gate[2];
    load_row(static_cast<const Out*>(args.gate) + block.batch * args.gate_stride + block.column, block.columns, gate);
    for (int i = 0; i < 2; ++i) v[i] = v[i] * gate[i];
  }
  if (args.residual) {
    Vec residual[2];
    load_row(static_cast<const Out*>(args.residual) + block.batch * args.residual_stride[0] +
                 token * args.residual_stride[1] + block.column,
             block.columns, residual);
    for (int i = 0; i < 2; ++i) v[i] = v[i] + residual[i];
  }
  store_row(static_cast<Out*>(args.out) + block.batch * args.out_stride[0] + token * args.out_stride[1] + block.column,
            v[0], v[1], block.columns);
}

// Up to `rows` more rows of a block that may be none.
template <bool kInteger>
inline void finish_rows(const Job& job, const Scratch& scratch, Finished& block, int64_t rows) {
  if (!block.sums) return;
  const int64_t end = block.next + rows < block.rows ? block.next + rows : block.rows;
  if (job.args->out_dtype == HUNYUAN_F32) {
    while (block.next < end) finish_row<kInteger, float>(job, scratch, block);
  } else {
    while (block.next < end) finish_row<kInteger, bf16>(job, scratch, block);
  }
}

}  // namespace
}  // namespace hunyuan::avx512
