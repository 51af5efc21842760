// hunyuan_linear on any processor: 16 columns of the weight decoded to float32 at a time, 4 rows of x together.
#include "common/simd/row_product.h"
#include "linear/cpu/gelu.h"
#include "linear/linear.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

// A row of the weight as column `column` of `packed`; e4m3 codes go through `row`.
void pack_row(const hunyuan_linear_args& args, int64_t n, int64_t column, float* packed, float* row) {
  const int64_t count = args.in_columns[0] + args.in_columns[1], offset = n * args.weight_row_stride;
  if (args.weight_dtype == HUNYUAN_F32)
    return pack_column(static_cast<const float*>(args.weight) + offset, count, column, packed);
  if (args.weight_dtype == HUNYUAN_BF16)
    return pack_column(static_cast<const bf16*>(args.weight) + offset, count, column, packed);
  const uint8_t* codes = static_cast<const uint8_t*>(args.weight) + offset;
  const float* scale = args.weight_scale + n / args.rows_per_scale * args.scale_row_stride;
  for (int64_t start = 0; start < count; start += args.columns_per_scale, ++scale) {
    const int64_t length = count - start < args.columns_per_scale ? count - start : args.columns_per_scale;
    decode_fp8_run(codes + start, length, *scale, HUNYUAN_F32, row + start);
  }
  pack_column(static_cast<const float*>(row), count, column, packed);
}

template <class Out>
void finish(const hunyuan_linear_args& args, const Vec* sums, int64_t sample, int64_t token, int64_t first,
            int64_t columns) {
  const Out* residual = static_cast<const Out*>(args.residual);
  if (residual) residual += sample * args.residual_stride[0] + token * args.residual_stride[1] + first;
  Out* out = static_cast<Out*>(args.out) + sample * args.out_stride[0] + token * args.out_stride[1] + first;
  for_each_register(columns, [&](int64_t j, int64_t column, auto part) {
    Vec value = sums[j];
    if (args.bias) value = value + load(static_cast<const Out*>(args.bias) + first + column, part);
    if (first >= args.gelu_from) value = gelu<Out>(value);
    if (args.gate)
      value = value * load(static_cast<const Out*>(args.gate) + sample * args.gate_stride + first + column, part);
    if (residual) value = value + load(residual + column, part);
    store(out + column, value, part);
  });
}

template <class In, class Out>
void rows_of(const hunyuan_linear_args& args, int64_t first, int64_t begin, int64_t end, float* packed) {
  const int64_t columns = args.out_columns - first < kColumns ? args.out_columns - first : kColumns;
  const int64_t depth = args.in_columns[0] + args.in_columns[1];
  float* row_memory = packed + depth * kColumns;
  for (int64_t column = 0; column < kColumns; ++column) {
    if (column < columns)
      pack_row(args, first + column, column, packed, row_memory);
    else
      clear_column(depth, column, packed);
  }
  for (int64_t row = begin; row < end; row += kRows) {
    const int64_t count = end - row < kRows ? end - row : kRows;
    Sums sums = no_sums();
    for (int input = 0; input < 2; ++input) {
      if (args.in_columns[input] == 0) continue;
      const In* from[kRows];
      for (int64_t i = 0; i < kRows; ++i) {  // past the end: the last one again, whose sums are not written
        const int64_t at = row + (i < count ? i : count - 1);
        from[i] = static_cast<const In*>(args.x[input]) + at / args.tokens * args.x_stride[input][0] +
                  at % args.tokens * args.x_stride[input][1];
      }
      add_products(from, args.in_columns[input], packed + (input ? args.in_columns[0] * kColumns : 0), sums);
    }
    for (int64_t i = 0; i < count; ++i)
      finish<Out>(args, sums.of[i], (row + i) / args.tokens, (row + i) % args.tokens, first, columns);
  }
}

}  // namespace

void linear_float_rows(const hunyuan_linear_args& args, int64_t first, int64_t begin, int64_t end, float* memory) {
  const bool wide_in = args.x_dtype == HUNYUAN_F32, wide_out = args.out_dtype == HUNYUAN_F32;
  if (wide_in && wide_out) return rows_of<float, float>(args, first, begin, end, memory);
  if (wide_in) return rows_of<float, bf16>(args, first, begin, end, memory);
  if (wide_out) return rows_of<bf16, float>(args, first, begin, end, memory);
  rows_of<bf16, bf16>(args, first, begin, end, memory);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
