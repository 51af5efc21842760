// Padding of the convolution, whose own kernel is for devices.
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
