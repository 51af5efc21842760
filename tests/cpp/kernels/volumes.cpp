// Kernels on volumes [batch, channels, frames, rows, columns].
#include "cases.h"

void pad_causal(Problem& problem) {
  hunyuan_pad_causal_args args{};
  args.planes = problem.size(0, 3), args.frames = problem.size(0, 5);
  args.rows = problem.size(0, 9), args.columns = problem.size(0, 40);
  args.pad_frames = problem.size(0, 3), args.pad_rows = problem.size(0, 2), args.pad_columns = problem.size(0, 2);
  args.cell_bytes = problem.coin() ? 2 << problem.size(0, 1) : problem.size(1, 300);
  const int64_t cells = args.planes * args.frames * args.rows * args.columns;
  const int64_t padded = args.planes * (args.frames + args.pad_frames) * (args.rows + 2 * args.pad_rows) *
                         (args.columns + 2 * args.pad_columns);
  args.x = problem.input(HUNYUAN_E4M3, cells * args.cell_bytes);
  args.out = problem.output(HUNYUAN_E4M3, cells ? padded * args.cell_bytes : 0);  // nothing to repeat: nothing written
  problem.run([&](hunyuan_target target) { return hunyuan_pad_causal(&args, target); });
}

void group_norm_silu(Problem& problem) {
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

void group_norm_silu_known(Problem& problem) {
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

void channel_moments(Problem& problem) {
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
