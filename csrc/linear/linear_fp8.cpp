// linear_fp8, linear_few_rows and quantize_rows: argument checks and dispatch.
#include <initializer_list>

#include "common/host/status.h"
#include "linear/linear.h"

namespace hunyuan {
namespace {

bool aligned16(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

int check(const hunyuan_linear_fp8_args& args) {
  const auto number = [](int64_t n) { return static_cast<long long>(n); };
  if (args.rows < 0 || args.in_columns <= 0 || args.out_columns <= 0 || args.in_columns % 16 != 0 ||
      args.out_columns % 16 != 0)
    return fail(HUNYUAN_BAD_ARGUMENT,
                "linear_fp8: the weight must be a multiple of 16 on both sides, it is %lld x %lld",
                number(args.out_columns), number(args.in_columns));
  constexpr int64_t kMost =
      0x7fffffff - 512;  // rows and columns are counted in 32 bits, up to the end of the last tile
  if (args.rows > kMost || args.in_columns > kMost || args.out_columns > kMost)
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: %lld rows of %lld columns are too many", number(args.rows),
                number(args.in_columns));
  if (args.x_block != 0 && args.x_block != 128)
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: x_block must be 0 or 128, got %lld", number(args.x_block));
  if (args.weight_scales != 0 && args.weight_scales != 1 && args.weight_scales != 128)
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: weight_scales must be 0, 1 or 128, got %lld",
                number(args.weight_scales));
  if (args.gate && (args.tokens <= 0 || args.gate_stride % 2 != 0))
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: gate needs a positive number of tokens and an even stride");
  for (const void* pointer :
       {args.x, args.x_tail, args.weight, args.bias, args.gate, args.residual, static_cast<const void*>(args.out)})
    if (!aligned16(pointer))
      return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: tensors must start at multiples of 16 bytes");
  if (args.x_tail && (args.x_block != 128 || !args.x_tail_scale || args.head_columns <= 0 ||
                      args.head_columns % 128 != 0 || args.head_columns >= args.in_columns))
    return fail(HUNYUAN_BAD_ARGUMENT,
                "linear_fp8: an x in two parts needs scales by block, and a first part of a multiple of 128 columns, "
                "not %lld of %lld",
                number(args.head_columns), number(args.in_columns));
  if (!args.x_scale || !args.weight_scale)
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: needs the scales of x and of the weight");
  if (!aligned16(args.weight_scale) && args.weight_scales == 1)  // read two at a time
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: scales of weight rows must start at a multiple of 16 bytes");
  return HUNYUAN_OK;
}

int check(const hunyuan_linear_few_rows_args& args) {
  const auto number = [](int64_t n) { return static_cast<long long>(n); };
  constexpr int64_t kMostRows = 16, kMost = 0x7fffffff - 1024;
  if (args.rows < 0 || args.rows > kMostRows)
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_few_rows: takes up to 16 rows, not %lld", number(args.rows));
  if (args.in_columns <= 0 || args.out_columns <= 0 || args.in_columns % 16 != 0 || args.in_columns > kMost ||
      args.out_columns > kMost)
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_few_rows: K must be a multiple of 16, the weight is %lld x %lld",
                number(args.out_columns), number(args.in_columns));
  if (!aligned16(args.x) || args.x_row_stride % 8 != 0 || !aligned16(args.weight))
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_few_rows: rows of x and weight must start at multiples of 16 bytes");
  if (!args.weight_scale) return fail(HUNYUAN_BAD_ARGUMENT, "linear_few_rows: needs the scale of the weight");
  if (args.gate && args.tokens <= 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "linear_few_rows: gate needs a positive number of tokens");
  return HUNYUAN_OK;
}

}  // namespace
}  // namespace hunyuan

extern "C" int hunyuan_linear_few_rows(const hunyuan_linear_few_rows_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (target.device < 0) return fail(HUNYUAN_BAD_ARGUMENT, "linear_few_rows: has no CPU kernel");
  if (const int status = check(*args)) return status;
  return args->rows == 0 ? HUNYUAN_OK : linear_few_rows_cuda(*args, target);
}

extern "C" int hunyuan_linear_fp8(const hunyuan_linear_fp8_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (target.device < 0) return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: has no CPU kernel");
  if (const int status = check(*args)) return status;
  return args->rows == 0 ? HUNYUAN_OK : linear_fp8_cuda(*args, target);
}

extern "C" int hunyuan_quantize_rows(const hunyuan_quantize_rows_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (target.device < 0) return fail(HUNYUAN_BAD_ARGUMENT, "quantize_rows: has no CPU kernel");
  if (args->rows < 0 || args->columns <= 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "quantize_rows: sizes must not be negative");
  return args->rows == 0 ? HUNYUAN_OK : quantize_rows_cuda(*args, target);
}
