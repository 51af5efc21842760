// Gradients, for training on a CPU.
#include "cases.h"
#include "hunyuan_training.h"

void rope_attention_backward(Problem& problem) {
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

void layer_norm_modulate_backward(Problem& problem) {
  hunyuan_layer_norm_modulate_backward_args args{};
  args.dtype = problem.dtype(), args.eps = 1e-6f;
  args.batch = problem.size(0, 3), args.tokens = problem.size(0, 150), args.channels = problem.size(1, 80);
  int64_t* strides[] = {args.grad_stride, args.x_stride};
  const void** inputs[] = {&args.grad_out, &args.x};
  for (int i = 0; i < 2; ++i) {
    strides[i][1] = problem.stride(args.channels), strides[i][0] = problem.stride(args.tokens * strides[i][1]);
    *inputs[i] =
        problem.input(args.dtype, extent(args.batch, strides[i][0], args.tokens, strides[i][1], args.channels));
  }
  args.scale_batch_stride = problem.stride(args.channels);
  args.scale = problem.input(args.dtype, extent(1, 0, args.batch, args.scale_batch_stride, args.channels));
  args.grad_x = problem.output(args.dtype, args.batch * args.tokens * args.channels);
  args.grad_shift = problem.output(args.dtype, args.batch * args.channels);
  args.grad_scale = problem.output(args.dtype, args.batch * args.channels);
  problem.run([&](hunyuan_target target) { return hunyuan_layer_norm_modulate_backward(&args, target); });
}

void gate_residual_backward(Problem& problem) {
  hunyuan_gate_residual_backward_args args{};
  args.dtype = problem.dtype();
  args.batch = problem.size(0, 3), args.tokens = problem.size(0, 150), args.channels = problem.size(1, 80);
  int64_t* strides[] = {args.grad_stride, args.y_stride};
  const void** inputs[] = {&args.grad_out, &args.y};
  for (int i = 0; i < 2; ++i) {
    strides[i][1] = problem.stride(args.channels), strides[i][0] = problem.stride(args.tokens * strides[i][1]);
    *inputs[i] =
        problem.input(args.dtype, extent(args.batch, strides[i][0], args.tokens, strides[i][1], args.channels));
  }
  args.gate_batch_stride = problem.stride(args.channels);
  args.gate = problem.input(args.dtype, extent(1, 0, args.batch, args.gate_batch_stride, args.channels));
  args.grad_y = problem.output(args.dtype, args.batch * args.tokens * args.channels);
  args.grad_gate = problem.output(args.dtype, args.batch * args.channels);
  problem.run([&](hunyuan_target target) { return hunyuan_gate_residual_backward(&args, target); });
}

void gelu(Problem& problem) {
  hunyuan_gelu_args args{};
  args.dtype = problem.dtype(), args.rows = problem.size(0, 20), args.columns = problem.size(1, 80);
  args.x_stride = problem.stride(args.columns), args.grad_stride = problem.stride(args.columns);
  args.x = problem.input(args.dtype, extent(1, 0, args.rows, args.x_stride, args.columns));
  if (problem.coin())
    args.grad_out = problem.input(args.dtype, extent(1, 0, args.rows, args.grad_stride, args.columns));
  args.out_stride = args.columns;
  args.out = problem.output(args.dtype, args.rows * args.columns);
  problem.run([&](hunyuan_target target) { return hunyuan_gelu(&args, target); });
}
