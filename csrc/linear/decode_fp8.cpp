// decode_fp8: argument checks and dispatch.
#include "common/host/isa.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "linear/linear.h"

namespace hunyuan {
namespace {

// Below this a run does not pay for the 128-entry table of the byte-permute kernel.
[[maybe_unused]] constexpr int64_t kTableRun = 256;

void decode_rows(const hunyuan_decode_fp8_args& args, int64_t begin, int64_t end) {
  const auto kernel = HUNYUAN_PICK(decode_fp8_run);
  const int64_t size = args.out_dtype == HUNYUAN_F32 ? 4 : 2;
  for (int64_t row = begin; row < end; ++row) {
    const float* scale = args.scale + row / args.rows_per_scale * args.scale_row_stride;
    for (int64_t start = 0; start < args.columns; start += args.columns_per_scale, ++scale) {
      const int64_t count =
          args.columns - start < args.columns_per_scale ? args.columns - start : args.columns_per_scale;
      const uint8_t* codes = args.weight + row * args.weight_row_stride + start;
      char* out = static_cast<char*>(args.out) + (row * args.columns + start) * size;
#if defined(HUNYUAN_X86)
      if (args.out_dtype == HUNYUAN_BF16 && count >= kTableRun && has_avx512_vbmi()) {
        avx512vbmi::decode_fp8_run_bf16(codes, count, *scale, out);
        continue;
      }
#endif
      kernel(codes, count, *scale, args.out_dtype, out);
    }
  }
}

}  // namespace
}  // namespace hunyuan

extern "C" int hunyuan_decode_fp8(const hunyuan_decode_fp8_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->rows < 0 || args->columns < 0) return fail(HUNYUAN_BAD_ARGUMENT, "decode_fp8: sizes must not be negative");
  if (args->rows_per_scale <= 0 || args->columns_per_scale <= 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "decode_fp8: a scale must cover at least one row and column");
  if (args->out_dtype != HUNYUAN_F32 && args->out_dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "decode_fp8: the CPU kernel writes float32 or bfloat16");
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "decode_fp8: has no CUDA kernel");
  if (args->rows * args->columns == 0) return HUNYUAN_OK;
  parallel_ranges(args->rows, args->rows * args->columns, target.threads,
                  [&](int64_t begin, int64_t end) { decode_rows(*args, begin, end); });
  return HUNYUAN_OK;
}
