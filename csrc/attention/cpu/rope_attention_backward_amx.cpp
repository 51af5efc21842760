// Gradients of attention with AMX: packing, blocks, and what follows the sums of the queries.
#include "attention/cpu/tile_backward.h"

namespace hunyuan::amx {
namespace {

constexpr int64_t kTokens = kPackedKeys;  // packed at a time

// Queries as the forward pass multiplied them: normed, rotated, times factor, rounded.
void read_queries(const Problem& problem, int64_t sample, int64_t head, int64_t first, bf16* rows) {
  const int64_t depth = problem.depth;
  for (int64_t i = 0; i < kTokens; ++i, rows += depth) {
    alignas(64) float row[kMostDepth];
    if (first + i < problem.args->tokens)
      read_token<bf16>(problem, 0, sample, head, first + i, row);
    else
      memset(row, 0, sizeof row);
    for (int64_t d = 0; d < depth; d += 32)
      store_pair(rows + d, load(row + d) * set(problem.factor), load(row + d + 16) * set(problem.factor));
  }
}

// Gradients of the output as rows, and delta.
void read_gradients(const BackwardProblem& problem, int64_t sample, int64_t head, int64_t first, bf16* rows,
                    float* delta) {
  const hunyuan_rope_attention_args& args = *problem.forward.args;
  const int64_t* stride = problem.args->grad_out_stride;
  const bf16* grads = static_cast<const bf16*>(problem.args->grad_out) + sample * stride[0] + head * stride[2];
  const bf16* outs = static_cast<const bf16*>(args.out) + (sample * args.tokens * args.heads + head) * args.head_dim;
  for (int64_t i = 0; i < kTokens; ++i, rows += problem.forward.depth) {
    const int64_t token = first + i;
    memset(static_cast<void*>(rows), 0, problem.forward.depth * sizeof(bf16));
    delta[i] = 0.0f;
    if (token >= args.tokens) continue;
    const bf16 *grad = grads + token * stride[1], *out = outs + token * args.heads * args.head_dim;
    memcpy(static_cast<void*>(rows), grad, args.head_dim * sizeof(bf16));
    delta[i] =
        sum_terms(args.head_dim, [&](int64_t d, auto piece) { return load(grad + d, piece) * load(out + d, piece); });
  }
}

// 32 rows as blocks of columns and as pairs.
void pack_both(const bf16* rows, int64_t depth, char* columns, char* pairs) {
  for (int64_t n = 0; n < kTokens; n += kPanel)
    transpose_keys(rows + n * depth, depth / 2, columns + n * 2 * depth, kBlockBytes);
  pair_rows(rows, depth, pairs, kBlockBytes, 2 * kBlockBytes);
}

// 32 keys: rows to columns of the turned block.
void turn_keys(const bf16* rows, int64_t depth, char* out) {
  alignas(64) char pairs[kTokens * kMostDepth * sizeof(bf16)];
  alignas(64) uint32_t turned[kPanel * kPanel];
  pair_rows(rows, depth, pairs, kBlockBytes, 2 * kBlockBytes);
  for (int64_t d = 0; d < depth; d += kPanel) {
    transpose_block(reinterpret_cast<const uint32_t*>(pairs + d / kPanel * kBlockBytes), kPanel, turned);
    for (int64_t i = 0; i < kPanel; ++i) memcpy(out + (d + i) * 2 * kBlockKeys, turned + i * kPanel, 64);
  }
}

}  // namespace

void rope_attention_backward_pack(const BackwardProblem& problem, int64_t sample, int64_t head, int64_t first,
                                  int64_t valid_keys, const BackwardPacked& packed) {
  const Problem& forward = problem.forward;
  const hunyuan_rope_attention_args& args = *forward.args;
  const int64_t depth = forward.depth, at = first * 2 * depth;
  alignas(64) bf16 rows[kTokens * kMostDepth];
  read_queries(forward, sample, head, first, rows);
  pack_both(rows, depth, packed.query_columns + at, packed.query_pairs + at);
  read_gradients(problem, sample, head, first, rows, packed.delta + first);
  pack_both(rows, depth, packed.grad_columns + at, packed.grad_pairs + at);
  const float* lse = args.lse + (sample * args.heads + head) * args.tokens;
  for (int64_t token = first; token < first + kTokens; ++token)
    packed.lse[token] = token < args.tokens ? lse[token] : __builtin_inff();

  bf16* keys = reinterpret_cast<bf16*>(packed.keys + at);
  bf16* values = reinterpret_cast<bf16*>(packed.values + at);
  for (int64_t n = 0; n < kTokens; n += kPanel)
    read_keys<bf16>(forward, sample, head, first + n, valid_keys, keys + n * depth);
  for (int64_t n = 0; n < kTokens; ++n)
    read_value<bf16>(forward, sample, head, first + n, valid_keys, values + n * depth);
  const int64_t block = first / kBlockKeys * kBlockKeys;
  turn_keys(keys, depth, packed.key_turned + 2 * (block * depth + first - block));
}

void rope_attention_backward_keys(const BackwardProblem& problem, const KeyPart& part, int64_t valid_keys,
                                  const BackwardPacked& packed) {
  TileBackward(problem, packed, part, valid_keys).run();
}

void rope_attention_backward_queries(const BackwardProblem& problem, const QueryBlock& block) {
  const hunyuan_rope_attention_args& args = *problem.forward.args;
  const int64_t* stride = problem.args->grad_stride;
  const int64_t depth = problem.forward.depth;
  memset(block.norms, 0, sizeof(NormSums));
  for (int64_t n = 0; n < block.count; n += kPanel) {
    alignas(64) float rows[kPanel * kMostDepth];
    for (int64_t d = 0; d < depth; d += kPanel) {
      alignas(64) uint32_t turned[kPanel * kPanel];
      __m512i sums[kPanel];
      for (int64_t i = 0; i < kPanel; ++i) {
        const float* from = block.query_sums + (d + i) * kBlockQueries + n;
        Vec total = load(from);
        for (int64_t part = 1; part < block.parts; ++part) total = total + load(from + part * block.part_stride);
        sums[i] = _mm512_castps_si512((total * set(args.scale)).lanes);
      }
      transpose_registers(sums, turned);
      for (int64_t i = 0; i < kPanel; ++i) memcpy(rows + i * depth + d, turned + i * kPanel, 64);
    }
    for (int64_t i = 0; i < kPanel && n + i < block.count; ++i) {
      const int64_t token = block.first + n + i;
      bf16* out = static_cast<bf16*>(problem.args->grad[0]) + block.sample * stride[0] + token * stride[1] +
                  block.head * stride[2];
      TileBackward::write_token(problem, 0, block.sample, block.head, token, rows + i * depth, out, *block.norms);
    }
  }
}

}  // namespace hunyuan::amx
