// Attention: every unit, with and without norms, rotation, prefixes of keys and block masks.
#include "cases.h"

namespace {

// A random list of blocks for rows of query_tile queries, ascending within a row.
void add_block_mask(Problem& problem, hunyuan_rope_attention_args& args) {
  args.query_tile = problem.size(1, 70), args.key_tile = problem.size(1, 70);
  args.mask_rows = (args.tokens + args.query_tile - 1) / args.query_tile;
  std::vector<int32_t> starts{0}, blocks;
  for (int64_t row = 0; row < args.mask_rows; ++row) {
    for (int64_t block = 0; block * args.key_tile < args.tokens; ++block)
      if (problem.coin()) blocks.push_back(static_cast<int32_t>(block));
    starts.push_back(static_cast<int32_t>(blocks.size()));
  }
  args.mask_pairs = static_cast<int64_t>(blocks.size());
  args.row_starts = problem.numbers(starts), args.key_blocks = problem.numbers(blocks);
}

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

}  // namespace

CASE(rope_attention) {
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
  if (problem.coin()) add_block_mask(problem, args);
  args.scale = 0.1f, args.eps = 1e-6f;
  args.out = problem.output(args.dtype, args.batch * args.tokens * args.heads * args.head_dim);
  problem.run([&](hunyuan_target target) { return hunyuan_rope_attention(&args, target); },
              [&] { return hunyuan_has_attention_unit(args.unit) != 0; });
}

CASE(qk_norm_rope) {
  hunyuan_qk_norm_rope_args args{};
  args.dtype = problem.dtype(), args.norm_dtype = problem.dtype();
  args.batch = problem.size(0, 2), args.tokens = problem.size(0, 40), args.heads = problem.size(1, 4);
  args.head_dim = 2 * problem.size(1, 70);
  args.text_tokens = problem.size(0, args.tokens);
  const int64_t video = args.tokens - args.text_tokens;
  const bool with_norm = problem.coin(), with_text_norm = with_norm && problem.coin(), with_rope = problem.coin();
  for (int i = 0; i < 2; ++i) {
    args.in_head_stride[i] = problem.stride(args.head_dim);
    args.in_token_stride[i] = problem.stride(args.heads * args.in_head_stride[i]);
    args.in_batch_stride[i] = problem.stride(args.tokens * args.in_token_stride[i]);
    const int64_t token = extent(1, 0, args.heads, args.in_head_stride[i], args.head_dim);
    args.in[i] = problem.input(
        args.dtype, extent(args.batch, args.in_batch_stride[i], args.tokens, args.in_token_stride[i], token));
    args.out[i] = problem.output(args.dtype, args.batch * args.tokens * args.heads * args.head_dim);
    args.out_batch_stride[i] = args.tokens * args.heads * args.head_dim;
    const bool by_head = problem.coin();
    args.out_token_stride[i] = (by_head ? 1 : args.heads) * args.head_dim;
    args.out_head_stride[i] = (by_head ? args.tokens : 1) * args.head_dim;
    if (with_norm) args.norm[i] = problem.input(args.norm_dtype, args.head_dim);
    if (with_text_norm) args.text_norm[i] = problem.input(args.norm_dtype, args.head_dim);
  }
  args.cos_stride = problem.stride(args.head_dim), args.sin_stride = problem.stride(args.head_dim);
  if (with_rope) {
    args.cos = problem.floats(extent(1, 0, video, args.cos_stride, args.head_dim));
    args.sin = problem.floats(extent(1, 0, video, args.sin_stride, args.head_dim));
  }
  args.eps = 1e-6f;
  problem.run([&](hunyuan_target target) { return hunyuan_qk_norm_rope(&args, target); });
}

CASE(rope_attention_backward) {
  hunyuan_rope_attention_backward_args args{};
  hunyuan_rope_attention_args& forward = args.forward;
  forward.dtype = HUNYUAN_BF16, forward.norm_dtype = problem.dtype(), forward.unit = HUNYUAN_UNIT_AMX;
  forward.batch = problem.size(0, 2), forward.heads = problem.size(1, 3), forward.head_dim = 16 * problem.size(1, 8);
  forward.tokens = problem.size(0, problem.coin() ? 40 : 300);
  forward.text_tokens = problem.size(0, forward.tokens);
  const int64_t video = forward.tokens - forward.text_tokens;
  const auto set_strides = [&](int64_t* stride) {
    stride[2] = problem.stride(forward.head_dim);
    stride[1] = problem.stride(forward.heads * stride[2]);
    stride[0] = problem.stride(forward.tokens * stride[1]);
    return extent(forward.batch, stride[0], forward.tokens, stride[1],
                  extent(1, 0, forward.heads, stride[2], forward.head_dim));
  };
  forward.q = problem.input(HUNYUAN_BF16, set_strides(forward.q_stride));
  forward.k = problem.input(HUNYUAN_BF16, set_strides(forward.k_stride));
  forward.v = problem.input(HUNYUAN_BF16, set_strides(forward.v_stride));
  args.grad_out = problem.input(HUNYUAN_BF16, set_strides(args.grad_out_stride));
  const int64_t elements = forward.batch * forward.tokens * forward.heads * forward.head_dim;
  for (int i = 0; i < 2; ++i) {
    forward.norm[i] = problem.maybe_input(forward.norm_dtype, forward.head_dim);
    forward.text_norm[i] = forward.norm[i] ? problem.maybe_input(forward.norm_dtype, forward.head_dim) : nullptr;
    const auto grad = [&](const void* weight) {
      return weight && elements ? static_cast<float*>(problem.output(HUNYUAN_F32, forward.head_dim)) : nullptr;
    };
    args.grad_norm[i] = grad(forward.norm[i]), args.grad_text_norm[i] = grad(forward.text_norm[i]);
  }
  maybe_rope_and_lengths(problem, forward, video);
  forward.scale = 0.1f, forward.eps = 1e-6f;
  forward.out = problem.output(HUNYUAN_BF16, elements);
  forward.lse = static_cast<float*>(problem.output(HUNYUAN_F32, forward.batch * forward.heads * forward.tokens));
  for (void*& grad : args.grad) grad = problem.output(HUNYUAN_BF16, elements);
  args.grad_stride[2] = forward.head_dim, args.grad_stride[1] = forward.heads * forward.head_dim;
  args.grad_stride[0] = forward.tokens * args.grad_stride[1];
  problem.run(
      [&](hunyuan_target target) {
        const int status = hunyuan_rope_attention(&forward, target);
        return status == HUNYUAN_OK ? hunyuan_rope_attention_backward(&args, target) : status;
      },
      [] { return hunyuan_has_attention_unit(HUNYUAN_UNIT_AMX) != 0; });
}
