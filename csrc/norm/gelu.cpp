// gelu and its gradient: checks and dispatch.
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "norm/norm.h"

extern "C" int hunyuan_gelu(const hunyuan_gelu_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->rows < 0 || args->columns < 0) return fail(HUNYUAN_BAD_ARGUMENT, "gelu: sizes must not be negative");
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "gelu: has no CUDA kernel");
  if (args->dtype != HUNYUAN_F32 && args->dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "gelu: takes float32 or bfloat16");
  const auto kernel = HUNYUAN_PICK(gelu_rows);
  parallel_ranges(args->rows, args->rows * args->columns, target.threads,
                  [&](int64_t begin, int64_t end) { kernel(*args, begin, end); });
  return HUNYUAN_OK;
}
