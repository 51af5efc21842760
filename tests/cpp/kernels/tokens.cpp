// Kernels on tokens [batch, tokens, channels] and heads.
#include "cases.h"

void template_scale(Problem& problem) {
  hunyuan_template_scale_args args{};
  args.dtype = problem.dtype();
  args.count = problem.size(0, 5) ? problem.length() : problem.size(32768, 40000);  // the last: several threads
  args.x = problem.input(args.dtype, args.count);
  args.out = problem.output(args.dtype, args.count);
  args.factor = 1.7f;
  problem.run([&](hunyuan_target target) { return hunyuan_template_scale(&args, target); });
}

void layer_norm_modulate(Problem& problem) {
  hunyuan_layer_norm_modulate_args args{};
  args.dtype = problem.dtype();
  args.batch = problem.size(0, 3), args.tokens = problem.size(0, 90), args.channels = problem.length() + 1;
  args.x_token_stride = problem.stride(args.channels);
  args.x_batch_stride = problem.stride(args.tokens * args.x_token_stride);
  args.shift_batch_stride = problem.stride(args.channels), args.scale_batch_stride = problem.stride(args.channels);
  args.x = problem.input(args.dtype,
                         extent(args.batch, args.x_batch_stride, args.tokens, args.x_token_stride, args.channels));
  args.shift = problem.input(args.dtype, extent(args.batch, args.shift_batch_stride, 1, 0, args.channels));
  args.scale = problem.input(args.dtype, extent(args.batch, args.scale_batch_stride, 1, 0, args.channels));
  args.out = problem.output(args.dtype, args.batch * args.tokens * args.channels);
  args.eps = 1e-2f;  // of rows of two values: differences of levels are not multiplied by a thousand
  problem.run([&](hunyuan_target target) { return hunyuan_layer_norm_modulate(&args, target); });
}

void gate_residual(Problem& problem) {
  hunyuan_gate_residual_args args{};
  args.dtype = problem.dtype();
  args.batch = problem.size(0, 3), args.tokens = problem.size(0, 90), args.channels = problem.length();
  args.x_token_stride = problem.stride(args.channels), args.y_token_stride = problem.stride(args.channels);
  args.x_batch_stride = problem.stride(args.tokens * args.x_token_stride);
  args.y_batch_stride = problem.stride(args.tokens * args.y_token_stride);
  args.gate_batch_stride = problem.stride(args.channels);
  args.x = problem.input(args.dtype,
                         extent(args.batch, args.x_batch_stride, args.tokens, args.x_token_stride, args.channels));
  args.y = problem.input(args.dtype,
                         extent(args.batch, args.y_batch_stride, args.tokens, args.y_token_stride, args.channels));
  args.gate = problem.input(args.dtype, extent(args.batch, args.gate_batch_stride, 1, 0, args.channels));
  args.out = problem.output(args.dtype, args.batch * args.tokens * args.channels);
  problem.run([&](hunyuan_target target) { return hunyuan_gate_residual(&args, target); });
}

void qk_norm_rope(Problem& problem) {
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
