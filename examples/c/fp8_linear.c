/* residual + gelu(x weight^T + bias) with e4m3 weights, a byte each, and a scale for every row of them. */
#include "example.h"

enum { ROWS = 7, IN = 50, OUT = 37 };

int main(void) {
  require_library();
  static float x[ROWS * IN], scale[OUT], bias[OUT], residual[ROWS * OUT], out[ROWS * OUT];
  static uint8_t weight[OUT * IN];
  fill(x, ROWS * IN, 0.0f), fill(bias, OUT, 1.0f), fill(residual, ROWS * OUT, 2.0f);
  for (int i = 0; i < OUT; ++i) scale[i] = 0.001f * (float)(1 + i % 5);
  for (int i = 0; i < OUT * IN; ++i) weight[i] = (uint8_t)(29 * i % 127 + 128 * (i % 3 == 0)); /* 127 is NaN */
  const hunyuan_target cpu = {.device = -1, .threads = 2};
  const hunyuan_linear_args args = {
      .x = {x}, .weight = weight, .weight_scale = scale, .bias = bias, .residual = residual, .out = out,
      .batch = 1, .tokens = ROWS, .in_columns = {IN}, .out_columns = OUT, .x_stride = {{ROWS * IN, IN}},
      .weight_row_stride = IN, .scale_row_stride = 1, .rows_per_scale = 1, .columns_per_scale = IN,
      .residual_stride = {ROWS * OUT, OUT}, .out_stride = {ROWS * OUT, OUT}, .gelu_from = 0,
      .unit = HUNYUAN_LINEAR_FLOAT, .x_dtype = HUNYUAN_F32, .weight_dtype = HUNYUAN_E4M3, .out_dtype = HUNYUAN_F32};
  require(hunyuan_linear(&args, cpu) == HUNYUAN_OK, hunyuan_last_error());
  print(out, ROWS * OUT);
  return 0;
}
