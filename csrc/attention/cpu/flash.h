// Flash attention of one tile of queries, and the packing before it, for any unit that multiplies packed blocks:
//   Unit::Element    float or bf16: the type of packed operands and of the weights
//   Unit::kRows      queries that are multiplied at a time; a tile is four times as many
//   Unit::kExponent  degree of the polynomial of 2^x
//   Unit::Scope      what a thread holds while it multiplies
//   Unit::multiply(Product)
//   Unit::store_weights(Element*, Vec, Vec)  two registers of weights
// Included by one source per unit; everything here has internal linkage (common/simd.h says why).
#pragma once

#include "attention/cpu/norm_rope.h"
#include "attention/cpu/rope_attention.h"
#include "common/simd.h"
#include "common/transpose.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

using namespace hunyuan::attention::cpu;

// c [kRows, columns] (+)= a [kRows, 16 * blocks steps] * b.
struct Product {
  const void* a;         // rows of Element
  int64_t a_stride;      // from one row to the next, in elements
  const char* b;         // packed
  int64_t block_stride;  // bytes from one block to the next along the summed dimension
  int64_t panel_stride;  // bytes from 16 columns to the next 16
  int64_t blocks;        // along the summed dimension
  int64_t columns;       // a multiple of 32
  float* c;
  int64_t c_stride;
  bool accumulate;
};

constexpr int64_t kChunk = 256;                // keys whose scores exist at a time
constexpr int64_t kScoreStride = kChunk + 16;  // rows that start in different cache sets
constexpr float kNothing = -__builtin_inff();  // below every score

// 2^x to 9e-8 (degree 5) or 3e-6 (degree 4: the result is rounded to bfloat16); 2^-126 below that.
template <int kDegree>
inline Vec power_of_two(Vec x) {
  x = max(set(-126.0f), x);  // in this order a NaN stays
  const Vec n = round_nearest(x), r = x - n;
  Vec p;
  if constexpr (kDegree == 5) {
    p = fma(set(1.3264727e-3f), r, set(9.6715130e-3f));
    p = fma(p, r, set(5.5507336e-2f));
    p = fma(p, r, set(2.4022242e-1f));
    p = fma(p, r, set(6.9314700e-1f));
  } else {
    p = fma(set(9.5828529e-3f), r, set(5.5906426e-2f));
    p = fma(p, r, set(2.4024099e-1f));
    p = fma(p, r, set(6.9312418e-1f));
  }
  return times_power_of_two(fma(p, r, set(1.0f)), n);
}

inline float max_of(Vec a) {
#if defined(HUNYUAN_LEVEL_AVX512)
  return _mm512_reduce_max_ps(a.lanes);
#else
  float lanes[Vec::width];
  store(lanes, a);
  for (int64_t half = Vec::width / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  return lanes[0];
#endif
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

template <class In, class Element>
inline void pack_keys(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid, char* out) {
  alignas(64) Element rows[kPanel * kMostDepth];
  const int64_t dwords = problem.depth * sizeof(Element) / 4;
  for (int64_t n = 0; n < kPanel; ++n) {
    if (first + n < valid)
      read_token<In>(problem, 1, sample, head, first + n, rows + n * problem.depth);
    else
      memset(static_cast<void*>(rows + n * problem.depth), 0, problem.depth * sizeof(Element));
  }
  for (int64_t d = 0; d < dwords; d += 16) {
    uint32_t words[256];
    for (int64_t n = 0; n < kPanel; ++n)
      memcpy(words + 16 * n, reinterpret_cast<char*>(rows) + 4 * (n * dwords + d), 64);
    transpose_block(words, 16, reinterpret_cast<uint32_t*>(out + d / 16 * kBlockBytes));
  }
}

// A row of v as `depth` elements; zeros past the valid keys.
template <class In, class Element>
inline void read_value(const Problem& problem, int64_t sample, int64_t head, int64_t token, int64_t valid,
                       Element* out) {
  const hunyuan_rope_attention_args& args = *problem.args;
  const int64_t dim = token < valid ? args.head_dim : 0;
  const int64_t offset = sample * args.v_stride[0] + token * args.v_stride[1] + head * args.v_stride[2];
  for (int64_t d = 0; d < dim; d += Vec::width) store(out + d, load(static_cast<const In*>(args.v) + offset + d));
  memset(static_cast<void*>(out + dim), 0, (problem.depth - dim) * sizeof(Element));
}

template <class In>
inline void pack_values(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid, char* out,
                        float) {
  float row[kMostDepth];
  for (int64_t n = 0; n < kPackedKeys; ++n) {
    read_value<In>(problem, sample, head, first + n, valid, row);
    char* to = out + n / 16 * (problem.depth / kPanel * kBlockBytes) + n % 16 * 64;
    for (int64_t d = 0; d < problem.depth; d += kPanel) memcpy(to + d / kPanel * kBlockBytes, row + d, 64);
  }
}

template <class In>
inline void pack_values(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid, char* out,
                        bf16) {
  bf16 rows[2][kMostDepth];
  for (int64_t pair = 0; pair < kPackedKeys / 2; ++pair) {
    for (int i = 0; i < 2; ++i) read_value<In>(problem, sample, head, first + 2 * pair + i, valid, rows[i]);
    for (int64_t d = 0; d < problem.depth; d += kPanel) {
      uint32_t words[kPanel];
      for (int64_t n = 0; n < kPanel; ++n)
        words[n] = rows[0][d + n].bits | static_cast<uint32_t>(rows[1][d + n].bits) << 16;
      memcpy(out + d / kPanel * kBlockBytes + pair * 64, words, 64);
    }
  }
}

template <class In, class Element>
inline void pack(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid,
                 const Packed& packed) {
  const int64_t row = problem.depth * static_cast<int64_t>(sizeof(Element));
  for (int64_t n = first; n < first + kPackedKeys; n += kPanel)
    pack_keys<In, Element>(problem, sample, head, n, valid, packed.keys + n * row);
  pack_values<In>(problem, sample, head, first, valid, packed.values + first * row, Element{});
}

template <class Element>
inline void pack_any(const Problem& problem, int64_t sample, int64_t head, int64_t first, int64_t valid,
                     const Packed& packed) {
  if (problem.args->dtype == HUNYUAN_F32) return pack<float, Element>(problem, sample, head, first, valid, packed);
  pack<bf16, Element>(problem, sample, head, first, valid, packed);
}

template <class Unit>
class Flash {
 public:
  using Element = typename Unit::Element;

  Flash(const Problem& problem, const Packed& packed) : problem_(problem), packed_(packed) {}

  void run(const Tile& tile) {
    rows_ = round_up(tile.count, Unit::kRows);
    [[maybe_unused]] const typename Unit::Scope scope;
    if (problem_.args->dtype == HUNYUAN_F32)
      read_queries<float>(tile);
    else
      read_queries<bf16>(tile);
    for (int64_t i = 0; i < rows_; ++i) most_[i] = kNothing;
    for (int64_t i = 0; i < rows_; ++i) sum_[i][0] = sum_[i][1] = set(0.0f);
    memset(out_, 0, rows_ * problem_.depth * sizeof(float));
    for (int64_t i = 0; i < tile.range_count; ++i) {
      const KeyRange range = tile.ranges[i];
      for (int64_t start = range.begin / kPackedKeys * kPackedKeys; start < range.end; start += kChunk)
        attend(start, range);
    }
    if (problem_.args->dtype == HUNYUAN_F32)
      write<float>(tile);
    else
      write<bf16>(tile);
  }

 private:
  static constexpr int64_t kTile = 4 * Unit::kRows;
  static_assert(kTile <= kMostTileQueries && kChunk % kPackedKeys == 0, "tiles must fit the buffers");

  template <class In>
  void read_queries(const Tile& tile) {
    for (int64_t i = 0; i < tile.count; ++i)
      read_token<In>(problem_, 0, tile.sample, tile.head, tile.first + i, query_ + i * problem_.depth);
    memset(static_cast<void*>(query_ + tile.count * problem_.depth), 0,
           (rows_ - tile.count) * problem_.depth * sizeof(Element));
  }

  // Adds the keys of `range` in [start, start + kChunk) to all rows.
  void attend(int64_t start, KeyRange range) {
    const int64_t left = range.end - start, valid = left < kChunk ? left : kChunk, keys = round_up(valid, kPackedKeys);
    const int64_t skipped = range.begin > start ? range.begin - start : 0;
    const int64_t row_bytes = problem_.depth * static_cast<int64_t>(sizeof(Element));
    for (int64_t row = 0; row < rows_; row += Unit::kRows) {
      Unit::multiply({query_ + row * problem_.depth, problem_.depth, packed_.keys + start * row_bytes, kBlockBytes,
                      kPanel * row_bytes, row_bytes / 64, keys, scores_, kScoreStride, false});
      hide(0, skipped);
      hide(valid, keys);
      float* out = out_ + row * problem_.depth;
      for (int64_t i = 0; i < Unit::kRows; ++i)
        weigh(row + i, scores_ + i * kScoreStride, keys, weights() + i * kWeightStride);
      Unit::multiply({weights(), kWeightStride, packed_.values + start * row_bytes,
                      problem_.depth / kPanel * kBlockBytes, kBlockBytes,
                      keys * static_cast<int64_t>(sizeof(Element)) / 64, problem_.depth, out, problem_.depth, true});
    }
  }

  // Keys that are not the range's: their scores never win and weigh nothing.
  void hide(int64_t begin, int64_t end) {
    if (begin == end) return;
    for (int64_t i = 0; i < Unit::kRows; ++i)
      for (int64_t n = begin; n < end; ++n) scores_[i * kScoreStride + n] = kNothing;
  }

  // Online softmax of one row: scores to weights 2^(factor * score - most), the output so far to the new maximum.
  void weigh(int64_t row, const float* scores, int64_t keys, Element* weights) {
    constexpr int64_t step = 2 * Vec::width;
    Vec most_a = load(scores), most_b = load(scores + Vec::width);
    for (int64_t n = step; n < keys; n += step) {
      most_a = max(most_a, load(scores + n));
      most_b = max(most_b, load(scores + n + Vec::width));
    }
    const float before = most_[row], here = max_of(max(most_a, most_b)) * problem_.factor;
    const float most = here > before ? here : before;
    Vec* sum = sum_[row];
    if (most > before) {
      most_[row] = most;
      const Vec shrink = power_of_two<Unit::kExponent>(set(before - most));
      for (int i = 0; i < 2; ++i) sum[i] = sum[i] * shrink;
      float* out = out_ + row * problem_.depth;
      for (int64_t d = 0; d < problem_.depth; d += Vec::width) store(out + d, load(out + d) * shrink);
    }
    const Vec factor = set(problem_.factor), offset = set(-most);
    Vec sum_a = sum[0], sum_b = sum[1];
    for (int64_t n = 0; n < keys; n += step) {
      const Vec a = power_of_two<Unit::kExponent>(fma(load(scores + n), factor, offset));
      const Vec b = power_of_two<Unit::kExponent>(fma(load(scores + n + Vec::width), factor, offset));
      sum_a = sum_a + a;
      sum_b = sum_b + b;
      Unit::store_weights(weights + n, a, b);
    }
    sum[0] = sum_a, sum[1] = sum_b;
  }

  template <class Out>
  void write(const Tile& tile) const {
    const hunyuan_rope_attention_args& args = *problem_.args;
    for (int64_t i = 0; i < tile.count; ++i) {
      const Vec share = set(tile.range_count ? 1.0f / sum(sum_[i][0] + sum_[i][1]) : 0.0f);
      Out* out = static_cast<Out*>(args.out) +
                 ((tile.sample * args.tokens + tile.first + i) * args.heads + tile.head) * args.head_dim;
      for (int64_t d = 0; d < args.head_dim; d += Vec::width)
        store(out + d, load(out_ + i * problem_.depth + d) * share);
    }
  }

  // float32 weights replace their scores.
  static constexpr bool kInPlace = sizeof(Element) == sizeof(float);
  static constexpr int64_t kWeightStride = kInPlace ? kScoreStride : kChunk + 32;
  Element* weights() { return kInPlace ? reinterpret_cast<Element*>(scores_) : weights_; }

  const Problem& problem_;
  const Packed& packed_;
  int64_t rows_ = 0;  // of this tile, padded
  alignas(64) float scores_[Unit::kRows * kScoreStride];
  alignas(64) Element weights_[kInPlace ? 1 : Unit::kRows * kWeightStride];
  alignas(64) Element query_[kTile * kMostDepth];
  alignas(64) float out_[kTile * kMostDepth];
  alignas(64) Vec sum_[kTile][2];  // a running sum for each lane
  float most_[kTile];
};

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
