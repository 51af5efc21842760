// The convolution and its padding.
#include "cases.h"

CASE(pad_causal) {
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

CASE(causal_conv3d) {
  hunyuan_causal_conv3d_args args{};
  args.dtype = problem.dtype(), args.bias_dtype = problem.coin() ? args.dtype : HUNYUAN_F32;
  args.batch = problem.size(0, 2), args.channels = problem.size(1, 20), args.out_channels = problem.size(1, 40);
  args.frames = problem.size(0, 4), args.rows = problem.size(0, 6), args.columns = problem.size(0, 12);
  int64_t positions = args.batch, taps = 1;
  const int64_t sizes[3] = {args.frames, args.rows, args.columns};
  for (int i = 0; i < 3; ++i) {
    args.kernel[i] = problem.size(1, 3), args.stride[i] = problem.size(1, 2), taps *= args.kernel[i];
    positions *= sizes[i] < args.kernel[i] ? 0 : (sizes[i] - args.kernel[i]) / args.stride[i] + 1;
  }
  args.x = problem.input(args.dtype, args.batch * args.frames * args.rows * args.columns * args.channels);
  args.weight = problem.input(args.dtype, args.out_channels * taps * args.channels);
  args.bias = problem.maybe_input(args.bias_dtype, args.out_channels);
  args.residual = problem.maybe_input(args.dtype, positions * args.out_channels);
  args.out = problem.output(args.dtype, positions * args.out_channels);
  problem.run([&](hunyuan_target target) { return hunyuan_causal_conv3d(&args, target); });
}
