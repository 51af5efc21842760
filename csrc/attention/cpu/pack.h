// Keys and values of a head, packed into blocks for a unit that multiplies; keys are normed and rotated on the way.
// Everything here has internal linkage (common/simd.h says why).
#pragma once

#include "attention/cpu/norm_rope.h"
#include "attention/cpu/rope_attention.h"
#include "common/simd/simd.h"
#include "common/simd/transpose.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

using namespace hunyuan::attention::cpu;

template <class Element>
inline float square_of(const Element* row, int64_t depth) {
  return sum_terms(depth, [&](int64_t d, auto piece) {
    const Vec value = load(row + d, piece);
    return value * value;
  });
}

// Token `token` of q (which = 0) or k (1), normed and rotated, as `depth` elements.
template <class In, class Element>
inline void read_token(const Problem& problem, int which, int64_t sample, int64_t head, int64_t token, Element* out) {
  const hunyuan_rope_attention_args& args = *problem.args;
  const int64_t* stride = which ? args.k_stride : args.q_stride;
  const In* x =
      static_cast<const In*>(which ? args.k : args.q) + sample * stride[0] + token * stride[1] + head * stride[2];
  const bool is_video = token < args.tokens - args.text_tokens;
  const float* cos = args.cos && is_video ? args.cos + token * args.cos_stride : nullptr;
  const float* sin = args.sin && is_video ? args.sin + token * args.sin_stride : nullptr;
  const float* weight = is_video ? problem.weights[which].video : problem.weights[which].text;
  norm_rope_head(x, out, args.head_dim, weight, cos, sin, args.eps);
  memset(static_cast<void*>(out + args.head_dim), 0, (problem.depth - args.head_dim) * sizeof(Element));
}

// 16 keys from `first` on as rows of `depth` elements, zeros past the valid ones. Returns the largest square of a norm.
template <class In, class Element>
inline float read_keys(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid,
                       Element* rows) {
  float largest = 0.0f;
  for (int64_t n = 0; n < kPanel; ++n, rows += problem.depth) {
    if (first + n < valid) {
      read_token<In>(problem, 1, sample, head, first + n, rows);
      largest = larger(largest, square_of(rows, problem.depth));
    } else {
      memset(static_cast<void*>(rows), 0, problem.depth * sizeof(Element));
    }
  }
  return largest;
}

// Rows of `dwords` dwords each, as blocks that lie `block_stride` bytes apart.
inline void transpose_keys(const void* rows, int64_t dwords, char* out, int64_t block_stride) {
  for (int64_t d = 0; d < dwords; d += 16)
    transpose_block(static_cast<const uint32_t*>(rows) + d, dwords,
                    reinterpret_cast<uint32_t*>(out + d / 16 * block_stride));
}

template <class In, class Element>
inline float pack_keys(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid, char* out) {
  alignas(64) Element rows[kPanel * kMostDepth];
  const float largest = read_keys<In>(problem, sample, head, first, valid, rows);
  transpose_keys(rows, problem.depth * sizeof(Element) / 4, out, kBlockBytes);
  return largest;
}

// A row of v as `depth` elements; zeros past the valid keys.
template <class In, class Element>
inline void read_value(const Problem& problem, int64_t sample, int64_t head, int64_t token, int64_t valid,
                       Element* out) {
  const hunyuan_rope_attention_args& args = *problem.args;
  const int64_t dim = token < valid ? args.head_dim : 0;
  const int64_t offset = sample * args.v_stride[0] + token * args.v_stride[1] + head * args.v_stride[2];
  const In* v = static_cast<const In*>(args.v) + offset;
  if constexpr (sizeof(In) == sizeof(Element)) {
    memcpy(static_cast<void*>(out), v, dim * sizeof(Element));
  } else {
    for (int64_t d = 0; d < dim; d += Vec::width) store(out + d, load(v + d));
  }
  memset(static_cast<void*>(out + dim), 0, (problem.depth - dim) * sizeof(Element));
}

template <class In>
inline void pack_values(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid, char* out,
                        float) {
  float row[kMostDepth];
  for (int64_t n = 0; n < kPackedKeys; ++n) {
    read_value<In>(problem, sample, head, first + n, valid, row);
    char* to = out + (first + n) / 16 * 2 * kBlockBytes + n % 16 * 64;
    for (int64_t d = 0; d < problem.depth; d += kPanel)
      memcpy(to + d / 32 * problem.value_stride + d % 32 / kPanel * kBlockBytes, row + d, 64);
  }
}

// Pairs of 32 rows, interleaved, as one block of each panel: two panels lie `panel_stride` bytes apart, two pairs of
// panels `pair_stride`.
inline void pair_rows(const bf16* rows, int64_t depth, char* out, int64_t panel_stride, int64_t pair_stride) {
  for (int64_t pair = 0; pair < kPackedKeys / 2; ++pair, rows += 2 * depth) {
    for (int64_t d = 0; d < depth; d += kPanel) {
      uint32_t words[kPanel];
      for (int64_t n = 0; n < kPanel; ++n)
        words[n] = rows[d + n].bits | static_cast<uint32_t>(rows[depth + d + n].bits) << 16;
      memcpy(out + d / 32 * pair_stride + d % 32 / kPanel * panel_stride + pair * 64, words, 64);
    }
  }
}

template <class In>
inline void pack_values(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid, char* out,
                        bf16) {
  alignas(64) bf16 rows[kPackedKeys * kMostDepth];
  for (int64_t n = 0; n < kPackedKeys; ++n)
    read_value<In>(problem, sample, head, first + n, valid, rows + n * problem.depth);
  pair_rows(rows, problem.depth, out + first / 32 * 2 * kBlockBytes, kBlockBytes, problem.value_stride);
}

template <class In, class Element>
inline void pack(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid,
                 const Packed& packed) {
  const int64_t row = problem.depth * static_cast<int64_t>(sizeof(Element));
  float largest = 0.0f;
  for (int64_t n = first; n < first + kPackedKeys; n += kPanel)
    largest = larger(largest, pack_keys<In, Element>(problem, sample, head, n, valid, packed.keys + n * row));
  packed.squares[first / kPackedKeys] = largest;
  pack_values<In>(problem, sample, head, first, valid, packed.values, Element{});
}

template <class Element>
inline void pack_any(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid,
                     const Packed& packed) {
  if (problem.args->dtype == HUNYUAN_F32) return pack<float, Element>(problem, sample, head, first, valid, packed);
  pack<bf16, Element>(problem, sample, head, first, valid, packed);
}

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
