// quantize_int8: argument checks and dispatch.
#include "common/host/isa.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "linear/linear.h"

extern "C" int hunyuan_quantize_int8(const hunyuan_quantize_int8_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->batch < 0 || args->tokens < 0 || args->in_columns[0] < 0 || args->in_columns[1] < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "quantize_int8: sizes must not be negative");
  if (args->dtype != HUNYUAN_F32 && args->dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "quantize_int8: reads float32 or bfloat16");
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "quantize_int8: has no CUDA kernel");
  const auto kernel = HUNYUAN_PICK(quantize_int8_row);
  const int64_t rows = args->batch * args->tokens, item = args->dtype == HUNYUAN_F32 ? 4 : 2;
  const auto quantize = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const void* x[2];
      for (int i = 0; i < 2; ++i)
        x[i] = static_cast<const char*>(args->x[i]) +
               (row / args->tokens * args->x_stride[i][0] + row % args->tokens * args->x_stride[i][1]) * item;
      kernel(*args, x, args->out + row * args->out_row_stride, args->scale + row);
    }
  };
  parallel_ranges(rows, rows * (args->in_columns[0] + args->in_columns[1]), target.threads, quantize);
  return HUNYUAN_OK;
}
