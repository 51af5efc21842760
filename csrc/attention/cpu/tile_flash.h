// Flash attention of one tile of queries in AMX tile registers.
//
// The work is a sequence of steps, 32 queries times up to 256 keys, and a step one of blocks of 32 keys. While tiles
// multiply the queries by the keys of the next block, vector instructions turn the scores of this one into weights:
// eight rows after each block of products. Then the step's weights are multiplied by its values. Products of both kinds
// in turns would need the operands of both in the first cache, which they do not fit.
#pragma once

#include "attention/cpu/bf16_weights.h"
#include "attention/cpu/tile_product.h"

namespace hunyuan::amx {
namespace {

constexpr int64_t kRows = 32;       // queries of a step
constexpr int64_t kMostKeys = 256;  // of a step

// 2^x. For bfloat16 weights to 8e-5, for float32 ones to 2e-9; 0 for minus infinity.
template <int kParts>
inline Vec power(Vec x) {
  if constexpr (kParts == 1) {
    constexpr int kDown = 9;  // x - floor(x)
    const Vec r = {_mm512_reduce_ps(x.lanes, kDown)};
    Vec p = fma(set(7.80245231e-2f), r, set(2.26067168e-1f));
    p = fma(p, r, set(6.95833529e-1f));
    return times_power_of_two(fma(p, r, set(0.99992522f)), x);  // takes floor(x)
  } else {
    constexpr int kNearest = 8;  // x - round(x), and 0 for infinities
    const Vec r = {_mm512_reduce_ps(x.lanes, kNearest)};
    Vec p = fma(set(1.5345812e-4f), r, set(1.33999314e-3f));
    p = fma(p, r, set(9.61848896e-3f));
    p = fma(p, r, set(5.55032878e-2f));
    p = fma(p, r, set(2.40226469e-1f));
    p = fma(p, r, set(6.93147206e-1f));
    return times_power_of_two(fma(p, r, set(1.0f)), round_nearest(x));
  }
}

struct Step {
  int64_t row;             // first query in the tile
  int64_t start, keys;     // packed keys
  int64_t skipped, valid;  // keys [skipped, valid) of them count
};

// The steps of a tile: for every `most` keys, all rows.
class Steps {
 public:
  Steps(const Tile& tile, int64_t rows, int64_t most) : tile_(tile), rows_(rows), most_(most) {
    if (!at_end()) enter_range();
  }
  bool at_end() const { return range_ == tile_.range_count; }
  const Step& operator*() const { return step_; }
  void advance() {
    step_.row += kRows;
    if (step_.row < rows_) return;
    step_.row = 0;
    if (step_.start + most_ < tile_.ranges[range_].end)
      enter_keys(step_.start + most_);
    else if (++range_ < tile_.range_count)
      enter_range();
  }

 private:
  void enter_range() { enter_keys(tile_.ranges[range_].begin / kPackedKeys * kPackedKeys); }
  void enter_keys(int64_t start) {
    const KeyRange range = tile_.ranges[range_];
    step_.start = start;
    step_.valid = range.end - start < most_ ? range.end - start : most_;
    step_.keys = round_up(step_.valid, kPackedKeys);
    step_.skipped = range.begin > start ? range.begin - start : 0;
  }

  const Tile& tile_;
  const int64_t rows_, most_;
  int64_t range_ = 0;
  Step step_{};
};

// kParts = 1: bfloat16 numbers; 3: float32 ones as sums of three.
template <int kParts>
class TileFlash {
 public:
  TileFlash(const Problem& problem, const Packed& packed) : problem_(problem), packed_(packed) {}

  void run(const Tile& tile) {
    rows_ = round_up(tile.count, kRows);
    if (problem_.args->dtype == HUNYUAN_F32)
      read_queries<float>(tile);
    else
      read_queries<bf16>(tile);
    memset(out_, 0, rows_ * problem_.depth * sizeof(float));
    for (int64_t i = 0; i < rows_; ++i) sum_[i] = set(0.0f), most_[i] = -__builtin_inff();
    {
      const TileScope scope;
      clear_sums();
      if (scores_are_bounded(1.0f, query_square_, tile.key_square))
        attend<true>(Steps(tile, rows_, kMostKeys));
      else
        attend<false>(Steps(tile, rows_, kPackedKeys));
    }
    if (problem_.args->dtype == HUNYUAN_F32)
      write<float>(tile);
    else
      write<bf16>(tile);
    if (problem_.args->lse) write_lse(tile);
  }

 private:
  static constexpr int64_t kTile = 256;  // most queries
  static constexpr int64_t kRowsAtATime = 8;
  static constexpr int64_t kWeightStride = kMostKeys + 32;
  static constexpr int64_t kPackedBlock = kParts * kBlockBytes;
  static_assert(kTile <= kMostTileQueries && kMostKeys % kPackedKeys == 0, "tiles must fit the buffers");

  // 32 keys of a step.
  struct Block {
    int64_t key;
    int buffer;  // of its scores
  };

  // kBounded: weights are 2^score. Else 2^(score - the row's maximum so far), and steps must be of 32 keys: the output
  // so far is brought to the new maximum before the weights of a step are collected.
  template <bool kBounded>
  void attend(Steps next) {
    if (next.at_end()) return;
    old_ = spare(), owed_ = owed_after_ = nullptr;
    Block block{0, 0};
    score(*next, block, [] {});
    while (!next.at_end()) {
      const Step step = *next;
      next.advance();
      for (bool last = false; !last;) {
        last = block.key + kPackedKeys == step.keys;
        const Block following{last ? 0 : block.key + kPackedKeys, 1 - block.buffer};
        hide(step, block);
        int64_t row = 0;
        const auto softmax = [&] {
          settle();
          for (int64_t i = 0; row < kRows && i < kRowsAtATime; ++i) weigh<kBounded>(step, block, row++);
        };
        if (!last)
          score(step, following, softmax);
        else if (!next.at_end())
          score(*next, following, softmax);
        else
          store_old();  // no product did
        while (row < kRows) softmax();
        fence();
        block = following;
      }
      for (int64_t d = 0; d < problem_.depth; d += 32) collect<kBounded>(step, d, [this] { settle(); });
    }
    store_old();
  }

  // Queries times keys.
  template <class Beside>
  void score(const Step& step, const Block& block, const Beside& beside) {
    const int64_t depth = problem_.depth, panel = kPanel * row_bytes();
    const TileOperands x{reinterpret_cast<const char*>(query_ + step.row * depth),
                         2 * depth,
                         2 * kTile * depth,
                         packed_.keys + (step.start + block.key) * row_bytes(),
                         kPackedBlock,
                         panel,
                         depth / 32};
    multiply<false>(x, {reinterpret_cast<char*>(scores_[block.buffer]), 4 * kPackedKeys}, nullptr, beside);
  }

  // Keys that are not the step's: their scores never win and weigh nothing.
  void hide(const Step& step, const Block& block) {
    const int64_t skipped = step.skipped - block.key, valid = step.valid - block.key;
    if (skipped <= 0 && valid >= kPackedKeys) return;
    store_old();
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t j = 0; j < kPackedKeys; ++j)
        if (j < skipped || j >= valid) scores_[block.buffer][i * kPackedKeys + j] = -__builtin_inff();
  }

  // 32 scores of a row to weights.
  template <bool kBounded>
  void weigh(const Step& step, const Block& block, int64_t row) {
    const float* scores = scores_[block.buffer] + row * kPackedKeys;
    bf16* weights = weights_ + row * kWeightStride + block.key;
    Vec a = load(scores), b = load(scores + 16), total = sum_[step.row + row];
    if constexpr (!kBounded) {
      float& most = most_[step.row + row];
      const float before = most, here = _mm512_reduce_max_ps(max(a, b).lanes);
      if (here > before) most = here;
      const Vec shrink = here > before ? power<kParts>(set(before - here)) : set(1.0f);
      shrink_[row] = _mm512_cvtss_f32(shrink.lanes);
      total = total * shrink;
      a = a - set(most), b = b - set(most);
    }
    a = power<kParts>(a), b = power<kParts>(b);
    if constexpr (kParts == 1) {
      total = store_weight_pair(weights, a, b, total);
    } else {
      total = total + (a + b);
      store_split(weights, kRows * kWeightStride, a, b);
    }
    sum_[step.row + row] = total;
  }

  // Adds weights times 32 columns of their values to the output so far.
  template <bool kBounded, class Beside>
  void collect(const Step& step, int64_t column, const Beside& beside) {
    const int64_t depth = problem_.depth;
    float* out = out_ + step.row * depth;
    if constexpr (!kBounded)
      if (column == 0) shrink(out, shrink_);
    const TileOperands x{reinterpret_cast<const char*>(weights_),
                         2 * kWeightStride,
                         2 * kRows * kWeightStride,
                         packed_.values + column / 32 * problem_.value_stride + step.start / 32 * 2 * kPackedBlock,
                         2 * kPackedBlock,
                         kPackedBlock,
                         step.keys / 32};
    if constexpr (kParts == 1) {
      multiply<true>(x, {reinterpret_cast<char*>(out + column), 4 * depth}, nullptr, beside);
    } else {  // added as a whole: a running sum over all keys would round once for every key
      multiply<false>(x, spare(), out + column, beside);
    }
  }

  void shrink(float* out, const float* by) {
    store_old();
    for (int64_t i = 0; i < kRows; ++i, out += problem_.depth)
      for (int64_t d = 0; by[i] != 1.0f && d < problem_.depth; d += 16) store(out + d, load(out + d) * set(by[i]));
    fence();
  }

  // (c +)= a * b in the tiles, what they held to where it belongs. add_to: where c is to be added, once it is stored.
  template <bool kAccumulate, class Beside>
  void multiply(const TileOperands& x, const TileSums& c, float* add_to, const Beside& beside) {
    owed_ = owed_after_;
    multiply_tiles<kParts, kAccumulate>(x, c, old_, beside);
    old_ = c;
    owed_after_ = add_to;
  }

  void store_old() {
    store_sums(old_);
    owed_ = owed_after_;
    settle();
    old_ = spare(), owed_after_ = nullptr;
  }

  // Adds the sums that were put aside to the output.
  void settle() {
    if (kParts == 1 || !owed_) return;
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t d = 0; d < 32; d += 16) {
        float* out = owed_ + i * problem_.depth + d;
        store(out, load(out) + load(spare_ + i * 32 + d));
      }
    owed_ = nullptr;
  }

  TileSums spare() { return {reinterpret_cast<char*>(spare_), 128}; }

  // Queries in units of log2(e) / scale: a score is then an exponent of two.
  template <class In>
  void read_queries(const Tile& tile) {
    const int64_t depth = problem_.depth;
    query_square_ = 0.0f;
    for (int64_t i = 0; i < rows_; ++i) {
      alignas(64) float row[kMostDepth];
      if (i < tile.count)
        read_token<In>(problem_, 0, tile.sample, tile.head, tile.first + i, row);
      else
        memset(row, 0, sizeof row);
      for (int64_t d = 0; d < depth; d += 16) store(row + d, load(row + d) * set(problem_.factor));
      query_square_ = larger(query_square_, square_of(row, depth));
      for (int64_t d = 0; d < depth; d += 32) {
        bf16* out = query_ + i * depth + d;
        if constexpr (kParts == 1)
          store_pair(out, load(row + d), load(row + d + 16));
        else
          split(row + d, out, kTile * depth);
      }
    }
  }

  template <class Out>
  void write(const Tile& tile) const {
    const hunyuan_rope_attention_args& args = *problem_.args;
    for (int64_t i = 0; i < tile.count; ++i) {
      const Vec share = set(tile.range_count ? 1.0f / sum(sum_[i]) : 0.0f);
      Out* out = static_cast<Out*>(args.out) +
                 ((tile.sample * args.tokens + tile.first + i) * args.heads + tile.head) * args.head_dim;
      for (int64_t d = 0; d < args.head_dim; d += 16) store(out + d, load(out_ + i * problem_.depth + d) * share);
    }
  }

  // For the backward pass, which recomputes weights as 2^(score - lse).
  void write_lse(const Tile& tile) const {
    const hunyuan_rope_attention_args& args = *problem_.args;
    float* lse = args.lse + (tile.sample * args.heads + tile.head) * args.tokens + tile.first;
    for (int64_t i = 0; i < tile.count; ++i)
      lse[i] = __builtin_log2f(sum(sum_[i])) + (most_[i] == -__builtin_inff() ? 0.0f : most_[i]);
  }

  int64_t row_bytes() const { return problem_.depth * 2 * kParts; }  // of a packed key or value

  const Problem& problem_;
  const Packed& packed_;
  int64_t rows_ = 0;             // of this tile, padded
  float query_square_ = 0.0f;    // largest square of a norm
  TileSums old_{};               // where what the tiles hold belongs
  float* owed_after_ = nullptr;  // what it is to be added to, when it is there
  float* owed_ = nullptr;        // what spare_ is to be added to
  alignas(64) float scores_[2][kRows * kPackedKeys];
  alignas(64) bf16 weights_[kParts * kRows * kWeightStride];
  alignas(64) float spare_[kRows * 32];
  alignas(64) bf16 query_[kParts * kTile * kMostDepth];
  alignas(64) float out_[kTile * kMostDepth];
  alignas(64) Vec sum_[kTile];  // a running sum for each lane
  float most_[kTile];
  float shrink_[kRows];  // of the output so far, by the step's new maximum
};

}  // namespace
}  // namespace hunyuan::amx
