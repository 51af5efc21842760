// Attention: every unit, with and without norms, rotation, prefixes of keys and block lists.
#include "cases.h"

namespace {

// A random list of blocks for rows of query_tile queries, ascending within a row.
void add_block_list(Problem& problem, hunyuan_rope_attention_args& args) {
  args.query_tile = problem.size(1, 70), args.key_tile = problem.size(1, 70);
  args.list_rows = (args.tokens + args.query_tile - 1) / args.query_tile;
  std::vector<int32_t> starts{0}, blocks;
  for (int64_t row = 0; row < args.list_rows; ++row) {
    for (int64_t block = 0; block * args.key_tile < args.tokens; ++block)
      if (problem.coin()) blocks.push_back(static_cast<int32_t>(block));
    starts.push_back(static_cast<int32_t>(blocks.size()));
  }
  args.list_pairs = static_cast<int64_t>(blocks.size());
  args.row_starts = problem.numbers(starts), args.key_blocks = problem.numbers(blocks);
}

}  // namespace

// Tables for the first `video` tokens, and a number of valid keys a sample: each in half of the problems.
void maybe_rope_and_lengths(Problem& problem, hunyuan_rope_attention_args& args, int64_t video) {
  if (problem.coin()) {
    args.cos_stride = problem.stride(args.head_dim), args.sin_stride = problem.stride(args.head_dim);
    args.cos = problem.floats(extent(1, 0, video, args.cos_stride, args.head_dim));
    args.sin = problem.floats(extent(1, 0, video, args.sin_stride, args.head_dim));
  }
  if (args.tokens && problem.coin()) {
    std::vector<int64_t> valid(args.batch);
    for (int64_t& count : valid) count = problem.size(1, args.tokens);
    args.kv_len = problem.numbers(valid);
  }
}

void rope_attention(Problem& problem) {
  hunyuan_rope_attention_args args{};
  args.dtype = problem.dtype(), args.norm_dtype = problem.dtype();
  args.unit = static_cast<hunyuan_attention_unit>(problem.size(HUNYUAN_UNIT_FLOAT, HUNYUAN_UNIT_AMX_SPLIT));
  args.batch = problem.size(0, 2), args.heads = problem.size(1, 3), args.head_dim = 16 * problem.size(1, 8);
  args.tokens = problem.size(0, problem.coin() ? 40 : 300);
  args.text_tokens = problem.size(0, args.tokens);
  const int64_t video = args.tokens - args.text_tokens;
  const void** operands[] = {&args.q, &args.k, &args.v};
  int64_t* strides[] = {args.q_stride, args.k_stride, args.v_stride};
  for (int i = 0; i < 3; ++i) {
    int64_t* stride = strides[i];
    stride[2] = problem.stride(args.head_dim);
    stride[1] = problem.stride(args.heads * stride[2]);
    stride[0] = problem.stride(args.tokens * stride[1]);
    const int64_t token = extent(1, 0, args.heads, stride[2], args.head_dim);
    *operands[i] = problem.input(args.dtype, extent(args.batch, stride[0], args.tokens, stride[1], token));
  }
  for (int i = 0; i < 2; ++i) {
    args.norm[i] = problem.maybe_input(args.norm_dtype, args.head_dim);
    args.text_norm[i] = args.norm[i] ? problem.maybe_input(args.norm_dtype, args.head_dim) : nullptr;
  }
  maybe_rope_and_lengths(problem, args, video);
  if (problem.coin()) add_block_list(problem, args);
  args.scale = 0.1f, args.eps = 1e-6f;
  args.out = problem.output(args.dtype, args.batch * args.tokens * args.heads * args.head_dim);
  problem.run([&](hunyuan_target target) { return hunyuan_rope_attention(&args, target); },
              [&] { return hunyuan_has_attention_unit(args.unit) != 0; });
}
