// Kernels on weights [rows, columns].
#include "cases.h"

void decode_fp8(Problem& problem) {
  hunyuan_decode_fp8_args args{};
  args.out_dtype = problem.dtype();
  args.rows = problem.size(0, 40), args.columns = problem.length();
  args.weight_row_stride = problem.stride(args.columns);
  const int64_t scaling = problem.size(0, 2);  // one value, by row, by block
  args.rows_per_scale = scaling == 2 ? problem.size(1, 64) : 1;
  args.columns_per_scale = scaling == 2 ? problem.size(1, 600) : args.columns;
  const int64_t scale_rows = (args.rows + args.rows_per_scale - 1) / args.rows_per_scale;
  const int64_t scale_columns = (args.columns + args.columns_per_scale - 1) / args.columns_per_scale;
  args.scale_row_stride = scaling ? problem.stride(scale_columns) : 0;
  const int64_t last = args.rows ? (scale_rows - 1) * args.scale_row_stride + scale_columns : 0;
  const int64_t codes = args.rows ? (args.rows - 1) * args.weight_row_stride + args.columns : 0;
  args.scale = problem.floats(last);
  args.weight = static_cast<const uint8_t*>(problem.input(HUNYUAN_E4M3, codes));
  args.out = problem.output(args.out_dtype, args.rows * args.columns);
  problem.run([&](hunyuan_target target) { return hunyuan_decode_fp8(&args, target); });
}
