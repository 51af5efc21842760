// gate_residual: argument checks and dispatch.
#include "common/host/isa.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "norm/norm.h"

extern "C" int hunyuan_gate_residual(const hunyuan_gate_residual_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->batch < 0 || args->tokens < 0 || args->channels < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "gate_residual: sizes must not be negative");
  if (args->batch * args->tokens * args->channels == 0) return HUNYUAN_OK;
  if (target.device >= 0) return gate_residual_cuda(*args, target);
  if (args->dtype != HUNYUAN_F32 && args->dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "gate_residual: the CPU kernel takes float32 or bfloat16");
  const auto kernel = HUNYUAN_PICK(gate_residual_rows);
  const int64_t rows = args->batch * args->tokens;
  parallel_ranges(rows, rows * args->channels, target.threads,
                  [&](int64_t begin, int64_t end) { kernel(*args, begin, end); });
  return HUNYUAN_OK;
}
