/* A causal 3 x 3 x 3 convolution: the border is replicated first, two frames in front and none behind. Channels-last. */
#include "example.h"

enum { FRAMES = 3, ROWS = 4, COLUMNS = 6, IN = 5, OUT = 18, TAPS = 27 };
enum { PADDED = (FRAMES + 2) * (ROWS + 2) * (COLUMNS + 2) * IN, SIZE = FRAMES * ROWS * COLUMNS * OUT };

int main(void) {
  require_library();
  static float x[FRAMES * ROWS * COLUMNS * IN], padded[PADDED], weight[OUT * TAPS * IN], bias[OUT], out[SIZE];
  fill(x, FRAMES * ROWS * COLUMNS * IN, 0.0f), fill(weight, OUT * TAPS * IN, 1.0f), fill(bias, OUT, 2.0f);
  const hunyuan_target cpu = {.device = -1, .threads = 2};
  const hunyuan_pad_causal_args pad = {
      .x = x, .out = padded, .planes = 1, .frames = FRAMES, .rows = ROWS, .columns = COLUMNS,
      .cell_bytes = IN * sizeof(float), .pad_frames = 2, .pad_rows = 1, .pad_columns = 1};
  const hunyuan_causal_conv3d_args convolution = {
      .x = padded, .weight = weight, .bias = bias, .out = out,
      .batch = 1, .channels = IN, .out_channels = OUT,
      .frames = FRAMES + 2, .rows = ROWS + 2, .columns = COLUMNS + 2, .kernel = {3, 3, 3}, .stride = {1, 1, 1},
      .dtype = HUNYUAN_F32, .bias_dtype = HUNYUAN_F32};
  require(hunyuan_pad_causal(&pad, cpu) == HUNYUAN_OK, hunyuan_last_error());
  require(hunyuan_causal_conv3d(&convolution, cpu) == HUNYUAN_OK, hunyuan_last_error());
  print(out, SIZE);
  return 0;
}
