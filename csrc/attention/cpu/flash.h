// Flash attention of one tile of queries, for any unit that multiplies packed blocks with vector instructions:
//   Unit::Element    float or bf16: the type of packed operands and of the weights
//   Unit::kRows      queries that are multiplied at a time; a tile is four times as many
//   Unit::kExponent  degree of the polynomial of 2^x
//   Unit::multiply(Product)
//   Unit::store_weights(Element*, Vec, Vec, Vec sum)  two registers of weights; the sum, with them
// Included by one source per unit; everything here has internal linkage (common/simd.h says why).
#pragma once

#include "attention/cpu/pack.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

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

template <class Unit>
class Flash {
 public:
  using Element = typename Unit::Element;

  Flash(const Problem& problem, const Packed& packed) : problem_(problem), packed_(packed) {}

  void run(const Tile& tile) {
    rows_ = round_up(tile.count, Unit::kRows);
    if (problem_.args->dtype == HUNYUAN_F32)
      read_queries<float>(tile);
    else
      read_queries<bf16>(tile);
    bounded_ = scores_are_bounded(problem_.factor, query_square_, tile.key_square);
    for (int64_t i = 0; i < rows_; ++i) most_[i] = kNothing;
    for (int64_t i = 0; i < rows_; ++i) sum_[i] = set(0.0f);
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
    query_square_ = 0.0f;
    for (int64_t i = 0; i < tile.count; ++i) {
      Element* row = query_ + i * problem_.depth;
      read_token<In>(problem_, 0, tile.sample, tile.head, tile.first + i, row);
      query_square_ = larger(query_square_, square_of(row, problem_.depth));
    }
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
      for (int64_t i = 0; i < Unit::kRows; ++i) {
        const float* scores = scores_ + i * kScoreStride;
        const float most = bounded_ ? 0.0f : raise_most(row + i, scores, keys);
        weigh(row + i, scores, keys, most, weights() + i * kWeightStride);
      }
      const char* values = packed_.values + start * 2 * kBlockBytes * static_cast<int64_t>(sizeof(Element)) / 64;
      for (int64_t d = 0; d < problem_.depth; d += 32)
        Unit::multiply({weights(), kWeightStride, values + d / 32 * problem_.value_stride, 2 * kBlockBytes, kBlockBytes,
                        keys * static_cast<int64_t>(sizeof(Element)) / 64, 32, out + d, problem_.depth, true});
    }
  }

  // Keys that are not the range's: their scores never win and weigh nothing.
  void hide(int64_t begin, int64_t end) {
    if (begin == end) return;
    for (int64_t i = 0; i < Unit::kRows; ++i)
      for (int64_t n = begin; n < end; ++n) scores_[i * kScoreStride + n] = kNothing;
  }

  // The maximum of a row so far, these scores included; the sum and the output so far are brought to it.
  float raise_most(int64_t row, const float* scores, int64_t keys) {
    constexpr int64_t step = 2 * Vec::width;
    Vec most_a = load(scores), most_b = load(scores + Vec::width);
    for (int64_t n = step; n < keys; n += step) {
      most_a = max(most_a, load(scores + n));
      most_b = max(most_b, load(scores + n + Vec::width));
    }
    const float before = most_[row], here = max_of(max(most_a, most_b)) * problem_.factor;
    if (!(here > before)) return before;
    most_[row] = here;
    const Vec shrink = power_of_two<Unit::kExponent>(set(before - here));
    sum_[row] = sum_[row] * shrink;
    float* out = out_ + row * problem_.depth;
    for (int64_t d = 0; d < problem_.depth; d += Vec::width) store(out + d, load(out + d) * shrink);
    return here;
  }

  // Scores of one row to weights 2^(factor * score - most).
  void weigh(int64_t row, const float* scores, int64_t keys, float most, Element* weights) {
    constexpr int64_t step = 2 * Vec::width;
    const Vec factor = set(problem_.factor), offset = set(-most);
    Vec sum = sum_[row];
    for (int64_t n = 0; n < keys; n += step) {
      const Vec a = power_of_two<Unit::kExponent>(fma(load(scores + n), factor, offset));
      const Vec b = power_of_two<Unit::kExponent>(fma(load(scores + n + Vec::width), factor, offset));
      sum = Unit::store_weights(weights + n, a, b, sum);
    }
    sum_[row] = sum;
  }

  template <class Out>
  void write(const Tile& tile) const {
    const hunyuan_rope_attention_args& args = *problem_.args;
    for (int64_t i = 0; i < tile.count; ++i) {
      const Vec share = set(tile.range_count ? 1.0f / sum(sum_[i]) : 0.0f);
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
  int64_t rows_ = 0;           // of this tile, padded
  float query_square_ = 0.0f;  // largest square of a norm
  bool bounded_ = false;       // no score can overflow: no maximum is needed
  alignas(64) float scores_[Unit::kRows * kScoreStride];
  alignas(64) Element weights_[kInPlace ? 1 : Unit::kRows * kWeightStride];
  alignas(64) Element query_[kTile * kMostDepth];
  alignas(64) float out_[kTile * kMostDepth];
  alignas(64) Vec sum_[kTile];  // a running sum for each lane
  float most_[kTile];
};

}  // namespace
}  // namespace hunyuan::HUNYUAN_LEVEL
