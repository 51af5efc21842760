// template_scale: argument checks and dispatch.
#include "common/host/isa.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "template/template.h"

extern "C" int hunyuan_template_scale(const hunyuan_template_scale_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->count < 0) return fail(HUNYUAN_BAD_ARGUMENT, "template_scale: count must not be negative");
  if (args->count == 0) return HUNYUAN_OK;
  if (target.device >= 0) return template_scale_cuda(*args, target);
  if (args->dtype != HUNYUAN_F32 && args->dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "template_scale: the CPU kernel takes float32 or bfloat16");
  const auto kernel = HUNYUAN_PICK(template_scale_range);
  parallel_ranges(args->count, args->count, target.threads,
                  [&](int64_t begin, int64_t end) { kernel(*args, begin, end); });
  return HUNYUAN_OK;
}
