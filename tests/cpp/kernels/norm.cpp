// Norms, modulation and their gradients, on tokens and volumes.
#include "cases.h"

CASE(layer_norm_modulate) {
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

CASE(gate_residual) {
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

CASE(group_norm_silu) {
  hunyuan_group_norm_silu_args args{};
  args.dtype = problem.dtype(), args.affine_dtype = problem.dtype();
  args.groups = problem.size(1, 5);
  args.batch = problem.size(0, 2), args.channels = args.groups * problem.size(1, problem.coin() ? 4 : 30);
  args.frames = problem.size(1, 4), args.rows = problem.size(1, 8), args.columns = problem.size(1, 40);
  args.pad_frames = problem.size(0, 2), args.pad_rows = problem.size(0, 2), args.pad_columns = problem.size(0, 2);
  args.silu = problem.coin(), args.channels_last = problem.coin();
  args.eps = 1e-2f;  // of groups of one value: differences of levels are not multiplied by a thousand
  const int64_t planes = args.batch * args.channels;
  args.x = problem.input(args.dtype, planes * args.frames * args.rows * args.columns);
  args.weight = problem.maybe_input(args.affine_dtype, args.channels);
  args.bias = problem.maybe_input(args.affine_dtype, args.channels);
  args.out = problem.output(args.dtype, planes * (args.frames + args.pad_frames) * (args.rows + 2 * args.pad_rows) *
                                            (args.columns + 2 * args.pad_columns));
  problem.run([&](hunyuan_target target) { return hunyuan_group_norm_silu(&args, target); });
}

CASE(group_norm_silu_known) {
  hunyuan_group_norm_silu_args args{};
  args.dtype = problem.dtype(), args.groups = 1;
  args.batch = problem.size(0, 2), args.channels = problem.length();
  args.frames = problem.size(1, 3), args.rows = problem.size(1, 6), args.columns = problem.size(1, 9);
  args.pad_frames = problem.size(0, 2), args.pad_rows = problem.size(0, 1), args.pad_columns = problem.size(0, 1);
  args.silu = problem.coin(), args.channels_last = problem.coin();
  const int64_t planes = args.batch * args.channels;
  args.x = problem.input(args.dtype, planes * args.frames * args.rows * args.columns);
  args.affine = problem.floats(3 * planes);
  args.out = problem.output(args.dtype, planes * (args.frames + args.pad_frames) * (args.rows + 2 * args.pad_rows) *
                                            (args.columns + 2 * args.pad_columns));
  problem.run([&](hunyuan_target target) { return hunyuan_group_norm_silu(&args, target); });
}

CASE(channel_moments) {
  hunyuan_channel_moments_args args{};
  args.dtype = problem.dtype();
  args.positions = problem.size(1, problem.coin() ? 200 : 5000), args.channels = problem.size(1, 70);
  args.x = problem.input(args.dtype, args.positions * args.channels);
  auto* values = static_cast<float*>(problem.output(HUNYUAN_F32, 3 * args.channels));  // the totals, narrowed
  problem.run([&](hunyuan_target target) {
    const Buffer totals(3 * args.channels * 8, problem.coin());
    args.totals = reinterpret_cast<double*>(totals.data());
    const int status = hunyuan_channel_moments(&args, target);
    for (int64_t i = 0; i < 3 * args.channels; ++i) values[i] = static_cast<float>(args.totals[i]);
    return status;
  });
}

CASE(layer_norm_modulate_backward) {
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

CASE(gate_residual_backward) {
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

CASE(gelu) {
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
