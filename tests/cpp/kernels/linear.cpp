// Linear layers: every unit and type of weight, one input or two, with and without each part of the epilogue.
#include "cases.h"

namespace {

// One or two inputs [batch, tokens, K] of any strides; returns all of K.
template <class Args>
int64_t add_inputs(Problem& problem, Args& args, hunyuan_dtype dtype) {
  args.batch = problem.size(0, 2), args.tokens = problem.size(0, problem.coin() ? 20 : 100);
  const int inputs = problem.coin() ? 2 : 1;
  for (int i = 0; i < inputs; ++i) {
    args.in_columns[i] = problem.length();
    args.x_stride[i][1] = problem.stride(args.in_columns[i]);
    args.x_stride[i][0] = problem.stride(args.tokens * args.x_stride[i][1]);
    args.x[i] = problem.input(
        dtype, extent(args.batch, args.x_stride[i][0], args.tokens, args.x_stride[i][1], args.in_columns[i]));
  }
  return args.in_columns[0] + args.in_columns[1];
}

void add_e4m3_scale(Problem& problem, hunyuan_linear_args& args, int64_t columns) {
  const int64_t kind = problem.size(0, args.in_columns[1] ? 1 : 2);  // one value, by row, by block
  args.rows_per_scale = kind == 2 ? 16 * problem.size(1, 4) : 1;
  args.columns_per_scale = kind == 2 ? 32 * problem.size(1, 6) : columns;
  const int64_t scale_rows = (args.out_columns + args.rows_per_scale - 1) / args.rows_per_scale;
  const int64_t scale_columns = (columns + args.columns_per_scale - 1) / args.columns_per_scale;
  args.scale_row_stride = kind ? problem.stride(scale_columns) : 0;
  args.weight_scale = problem.floats((scale_rows - 1) * args.scale_row_stride + scale_columns);
}

// What follows the product, and the call.
void finish(Problem& problem, hunyuan_linear_args& args, int64_t columns) {
  if (args.unit != HUNYUAN_LINEAR_FLOAT) args.unit = problem.coin() ? HUNYUAN_LINEAR_AMX : HUNYUAN_LINEAR_DOT;
  args.weight_row_stride = problem.stride(columns);
  args.weight = problem.input(args.weight_dtype, extent(1, 0, args.out_columns, args.weight_row_stride, columns));
  args.bias = problem.maybe_input(args.out_dtype, args.out_columns);
  args.gate_stride = problem.stride(args.out_columns);
  args.gate = problem.maybe_input(args.out_dtype, extent(1, 0, args.batch, args.gate_stride, args.out_columns));
  args.residual_stride[1] = problem.stride(args.out_columns);
  args.residual_stride[0] = problem.stride(args.tokens * args.residual_stride[1]);
  args.residual = problem.maybe_input(args.out_dtype, extent(args.batch, args.residual_stride[0], args.tokens,
                                                             args.residual_stride[1], args.out_columns));
  args.gelu_from = problem.coin() ? args.out_columns : 32 * problem.size(0, args.out_columns / 32);
  args.out_stride[1] = args.out_columns, args.out_stride[0] = args.tokens * args.out_columns;
  args.out = problem.output(args.out_dtype, args.batch * args.tokens * args.out_columns);
  problem.run([&](hunyuan_target target) { return hunyuan_linear(&args, target); },
              [&] { return hunyuan_has_linear_unit(args.unit, args.x_dtype) != 0; });
}

}  // namespace

CASE(linear) {
  hunyuan_linear_args args{};
  args.x_dtype = HUNYUAN_BF16, args.out_dtype = problem.dtype();
  args.weight_dtype = problem.coin() ? HUNYUAN_BF16 : HUNYUAN_E4M3;
  args.out_columns = problem.size(1, problem.coin() ? 70 : 400);
  const int64_t columns = add_inputs(problem, args, args.x_dtype);
  if (args.weight_dtype == HUNYUAN_E4M3) add_e4m3_scale(problem, args, columns);
  finish(problem, args, columns);
}

CASE(linear_float) {
  hunyuan_linear_args args{};
  args.unit = HUNYUAN_LINEAR_FLOAT, args.x_dtype = problem.dtype(), args.out_dtype = problem.dtype();
  args.weight_dtype = problem.coin() ? problem.dtype() : HUNYUAN_E4M3;
  args.out_columns = problem.size(1, problem.coin() ? 70 : 400);
  const int64_t columns = add_inputs(problem, args, args.x_dtype);
  if (args.weight_dtype == HUNYUAN_E4M3) add_e4m3_scale(problem, args, columns);
  finish(problem, args, columns);
}

CASE(int8_linear) {
  hunyuan_linear_args args{};
  args.x_dtype = args.weight_dtype = HUNYUAN_I8, args.out_dtype = problem.dtype();
  args.out_columns = problem.size(1, problem.coin() ? 70 : 400);
  const int64_t columns = add_inputs(problem, args, args.x_dtype);
  args.x_scale = problem.floats(args.batch * args.tokens);
  args.weight_scale = problem.floats(args.out_columns);
  finish(problem, args, columns);
}

CASE(quantize_int8) {
  hunyuan_quantize_int8_args args{};
  args.dtype = problem.dtype(), args.plus_128 = problem.coin();
  const int64_t columns = add_inputs(problem, args, args.dtype), rows = args.batch * args.tokens;
  args.out_row_stride = columns;
  args.out = static_cast<int8_t*>(problem.output(HUNYUAN_I8, rows * columns));
  args.scale = static_cast<float*>(problem.output(HUNYUAN_F32, rows));
  problem.run([&](hunyuan_target target) { return hunyuan_quantize_int8(&args, target); });
}

CASE(decode_fp8) {
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
