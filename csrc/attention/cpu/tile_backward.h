// Gradients of attention in AMX tile registers, for a block of keys and one of queries at a time. Everything is turned:
// a row is a key, a column a query, so that log-sum-exp and delta are vectors along a row and every product finds its
// operands as they lie.
//
//   S = K Q^T, P = 2^(S - lse)      dP = V dO^T, dS = P (dP - delta)
//   dV += P dO                      dK += dS Q                        dQ^T += K^T dS
//
// P and dS are bfloat16; dS is kept twice, as rows and as pairs of rows.
#pragma once

#include "attention/cpu/backward.h"
#include "attention/cpu/norm_rope.h"
#include "attention/cpu/tile_flash.h"

namespace hunyuan::amx {
namespace {

using namespace hunyuan::attention::cpu;

class TileBackward {
 public:
  TileBackward(const BackwardProblem& problem, const BackwardPacked& packed, const KeyPart& part, int64_t valid)
      : problem_(problem), packed_(packed), part_(part), valid_(valid), depth_(problem.forward.depth) {}

  void run() {
    const int64_t tokens = problem_.forward.args->tokens;
    const int64_t query_blocks = (tokens + kBlockQueries - 1) / kBlockQueries;
    memset(part_.query_sums, 0, query_blocks * depth_ * kBlockQueries * sizeof(float));
    const TileScope scope;
    clear_sums();
    const int64_t end = part_.first + part_.count;
    for (first_key_ = part_.first; first_key_ < end; first_key_ += kBlockKeys) {
      const int64_t rest = end - first_key_, here = rest < kBlockKeys ? rest : kBlockKeys;
      key_groups_ = first_key_ < valid_ ? groups(here < valid_ - first_key_ ? here : valid_ - first_key_) : 0;
      memset(key_sums_, 0, sizeof key_sums_);
      memset(value_sums_, 0, sizeof value_sums_);
      for (first_query_ = 0; key_groups_ && first_query_ < tokens; first_query_ += kBlockQueries) {
        const int64_t left = tokens - first_query_;
        query_groups_ = groups(left < kBlockQueries ? left : kBlockQueries);
        weigh_block();
        multiply_block();
      }
      store_old();
      write_keys(here);
    }
  }

 private:
  static constexpr int64_t kGroup = 32;  // tokens of a product
  static constexpr int64_t kPairs = kGroup / 2;
  static constexpr int64_t kQueryPanels = kBlockQueries / kPanel;

  struct Cell {
    int64_t key, query;  // groups
    int buffer;
  };

  static int64_t groups(int64_t tokens) { return (tokens + kGroup - 1) / kGroup; }

  // P and dS of the block. Vector instructions weigh a cell while tiles multiply the next.
  void weigh_block() {
    const int64_t products = depth_ / 32 * 2, at_a_time = (kPairs + products - 1) / products;
    Cell before{0, 0, 0}, now{0, 0, 0};
    int64_t pair = kPairs;
    const auto weigh = [&] {
      for (int64_t i = 0; i < at_a_time && pair < kPairs; ++i) weigh_pair(before, pair++);
    };
    for (now.query = 0; now.query < query_groups_; ++now.query)
      for (now.key = 0; now.key < key_groups_; ++now.key) {
        multiply<false>(scores_of(packed_.keys, packed_.query_columns, now), cell(scores_[now.buffer]), weigh);
        multiply<false>(scores_of(packed_.values, packed_.grad_columns, now), cell(gradients_[now.buffer]), weigh);
        while (pair < kPairs) weigh();
        before = now, pair = 0;
        now.buffer ^= 1;
      }
    store_old();
    while (pair < kPairs) weigh();
    fence();
  }

  TileOperands scores_of(const char* rows, const char* columns, const Cell& at) const {
    const int64_t row = 2 * depth_, panel = kPanel * row;
    return {rows + (first_key_ + at.key * kGroup) * row,
            row,
            0,
            columns + (first_query_ + at.query * kGroup) * row,
            kBlockBytes,
            panel,
            depth_ / 32};
  }

  // Two keys of a cell and its 32 queries.
  void weigh_pair(const Cell& at, int64_t pair) {
    const int64_t query = first_query_ + at.query * kGroup, row = at.key * kGroup + 2 * pair;
    const float* scores = scores_[at.buffer] + 2 * pair * kGroup;
    const float* gradients = gradients_[at.buffer] + 2 * pair * kGroup;
    Vec p[2][2], ds[2][2];  // [key][half of the queries]
    for (int half = 0; half < 2; ++half) {
      const Vec lse = load(packed_.lse + query + 16 * half), delta = load(packed_.delta + query + 16 * half);
      for (int key = 0; key < 2; ++key) {
        const int64_t from = key * kGroup + 16 * half;
        p[key][half] = power<1>(load(scores + from) - lse);
        ds[key][half] = p[key][half] * (load(gradients + from) - delta);
      }
    }
    for (int key = 0; key < 2; ++key)
      if (first_key_ + row + key >= valid_)
        for (int half = 0; half < 2; ++half) p[key][half] = ds[key][half] = set(0.0f);
    for (int key = 0; key < 2; ++key) {
      const int64_t to = (row + key) * kBlockQueries + at.query * kGroup;
      store_pair(weights_ + to, p[key][0], p[key][1]);
      store_pair(score_rows_ + to, ds[key][0], ds[key][1]);
    }
    alignas(64) static constexpr uint16_t kMix[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    char* pairs = score_pairs_ + (at.key * kQueryPanels + at.query * 2) * kBlockBytes + pair * 64;
    for (int half = 0; half < 2; ++half) {
      const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(ds[1][half].lanes, ds[0][half].lanes));
      _mm512_store_si512(pairs + half * kBlockBytes, _mm512_permutexvar_epi16(_mm512_load_si512(kMix), both));
    }
  }

  // The three products of P and dS.
  void multiply_block() {
    const auto nothing = [] {};
    const int64_t group = kGroup * depth_, block = 2 * kBlockQueries;  // elements of 32 packed rows; bytes of a row
    for (int64_t key = 0; key < key_groups_; ++key)
      for (int64_t d = 0; d < depth_; d += 32) {
        const int64_t pairs = 2 * (first_query_ * depth_ + d * kGroup), to = key * group + d;
        const TileOperands values{reinterpret_cast<const char*>(weights_) + key * kGroup * block,
                                  block,
                                  0,
                                  packed_.grad_pairs + pairs,
                                  2 * group,
                                  kBlockBytes,
                                  query_groups_};
        multiply<true>(values, {reinterpret_cast<char*>(value_sums_ + to), 4 * depth_}, nothing);
        TileOperands keys = values;
        keys.a = reinterpret_cast<const char*>(score_rows_) + key * kGroup * block;
        keys.b = packed_.query_pairs + pairs;
        multiply<true>(keys, {reinterpret_cast<char*>(key_sums_ + to), 4 * depth_}, nothing);
      }
    float* sums = part_.query_sums + first_query_ * depth_;
    for (int64_t d = 0; d < depth_; d += 32)
      for (int64_t query = 0; query < query_groups_; ++query) {
        const TileOperands queries{packed_.key_turned + 2 * (first_key_ * depth_ + d * kBlockKeys),
                                   2 * kBlockKeys,
                                   0,
                                   score_pairs_ + query * 2 * kBlockBytes,
                                   kQueryPanels * kBlockBytes,
                                   kBlockBytes,
                                   key_groups_};
        float* to = sums + d * kBlockQueries + query * kGroup;
        multiply<true>(queries, {reinterpret_cast<char*>(to), 4 * kBlockQueries}, nothing);
      }
  }

  // Gradients of `count` keys and values, to where the caller wants them.
  void write_keys(int64_t count) {
    constexpr float kLn2 = 0.69314718f;  // queries were packed in units of log2(e) / scale
    const Problem& forward = problem_.forward;
    const hunyuan_rope_attention_args& args = *forward.args;
    NormSums& norms = part_.norms[(first_key_ - part_.first) / kBlockKeys];
    memset(&norms, 0, sizeof norms);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t token = first_key_ + i;
      bf16 *key = out_row(1, token), *value = out_row(2, token);
      if (token >= valid_) {
        memset(static_cast<void*>(key), 0, args.head_dim * sizeof(bf16));
        memset(static_cast<void*>(value), 0, args.head_dim * sizeof(bf16));
        continue;
      }
      float* grad = key_sums_ + i * depth_;
      for (int64_t d = 0; d < args.head_dim; d += 16) {
        store(grad + d, load(static_cast<const float*>(grad + d)) * set(kLn2));
        store(value + d, load(static_cast<const float*>(value_sums_ + i * depth_ + d)));
      }
      write_token(problem_, 1, part_.sample, part_.head, token, grad, key, norms);
    }
  }

  bf16* out_row(int which, int64_t token) const {
    const int64_t* stride = problem_.args->grad_stride;
    return static_cast<bf16*>(problem_.args->grad[which]) + part_.sample * stride[0] + token * stride[1] +
           part_.head * stride[2];
  }

 public:
  // From the gradient of a query (which = 0) or key (1), normed and rotated, to that of what the caller gave.
  static void write_token(const BackwardProblem& problem, int which, int64_t sample, int64_t head, int64_t token,
                          float* grad, bf16* out, NormSums& norms) {
    const hunyuan_rope_attention_args& args = *problem.forward.args;
    const int64_t* stride = which ? args.k_stride : args.q_stride;
    const bf16* x =
        static_cast<const bf16*>(which ? args.k : args.q) + sample * stride[0] + token * stride[1] + head * stride[2];
    const bool is_video = token < args.tokens - args.text_tokens;
    const QkNormWeights& weights = problem.forward.weights[which];
    norm_rope_head_backward(grad, x, out, args.head_dim, is_video ? weights.video : weights.text,
                            args.cos && is_video ? args.cos + token * args.cos_stride : nullptr,
                            args.sin && is_video ? args.sin + token * args.sin_stride : nullptr, args.eps,
                            is_video ? norms.video : norms.text);
  }

 private:
  static TileSums cell(float* at) { return {reinterpret_cast<char*>(at), 4 * kGroup}; }

  template <bool kAccumulate, class Beside>
  void multiply(const TileOperands& x, const TileSums& c, const Beside& beside) {
    multiply_tiles<1, kAccumulate>(x, c, old_, beside);
    old_ = c;
  }

  void store_old() {
    store_sums(old_);
    old_ = cell(spare_);
  }

  const BackwardProblem& problem_;
  const BackwardPacked& packed_;
  const KeyPart& part_;
  const int64_t valid_, depth_;
  int64_t first_key_ = 0, key_groups_ = 0, first_query_ = 0, query_groups_ = 0;
  TileSums old_ = cell(spare_);  // where what the tiles hold belongs
  alignas(64) float scores_[2][kGroup * kGroup];
  alignas(64) float gradients_[2][kGroup * kGroup];  // of weights
  alignas(64) float spare_[kGroup * kGroup];
  alignas(64) bf16 weights_[kBlockKeys * kBlockQueries];
  alignas(64) bf16 score_rows_[kBlockKeys * kBlockQueries];
  alignas(64) char score_pairs_[kBlockKeys * kBlockQueries * sizeof(bf16)];
  alignas(64) float key_sums_[kBlockKeys * kMostDepth];
  alignas(64) float value_sums_[kBlockKeys * kMostDepth];
};

}  // namespace
}  // namespace hunyuan::amx
