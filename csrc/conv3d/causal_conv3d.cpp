// causal_conv3d: argument checks and the choice of the kernel.
#include "common/host/column_tasks.h"
#include "common/host/status.h"
#include "conv3d/conv3d.h"
#include "conv3d/geometry.h"

namespace hunyuan {
namespace {

bool aligned16(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

int check(const hunyuan_causal_conv3d_args& args, bool cpu) {
  const auto number = [](int64_t n) { return static_cast<long long>(n); };
  if (args.batch < 0 || args.frames < 0 || args.rows < 0 || args.columns < 0 || args.channels <= 0 ||
      args.out_channels <= 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: sizes must not be negative, channels must be positive");
  if (!cpu && args.channels % 8 != 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: channels must be a multiple of 8, got %lld",
                number(args.channels));
  if (args.channels > 0x7fffffff || args.out_channels > 0x7fffffff)
    return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: too many channels");
  int64_t taps = 1;
  for (int i = 0; i < 3; ++i) {
    if (args.kernel[i] <= 0 || args.kernel[i] > conv3d::kMostTaps)
      return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: a kernel dimension of %lld is not supported",
                  number(args.kernel[i]));
    if (args.stride[i] < 1 || args.stride[i] > 2)
      return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: stride must be 1 or 2, got %lld", number(args.stride[i]));
    taps *= args.kernel[i];
  }
  if (taps > conv3d::kMostTaps)
    return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: a kernel of %lld taps is not supported, at most 64 are",
                number(taps));
  if (cpu && args.dtype != HUNYUAN_BF16 && args.dtype != HUNYUAN_F32)
    return fail(HUNYUAN_BAD_DTYPE, "causal_conv3d: the CPU kernel takes float32 or bfloat16");
  if (!cpu && args.dtype != HUNYUAN_BF16 && args.dtype != HUNYUAN_F16)
    return fail(HUNYUAN_BAD_DTYPE, "causal_conv3d: the CUDA kernel takes bfloat16 or float16");
  if (args.bias && args.bias_dtype != HUNYUAN_F32 && args.bias_dtype != args.dtype)
    return fail(HUNYUAN_BAD_DTYPE, "causal_conv3d: bias must be float32 or have the dtype of x");
  if (cpu && args.moments) return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: moments are left on CUDA only");
  if (cpu) return HUNYUAN_OK;
  if (!aligned16(args.x) || !aligned16(args.weight))
    return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: x and weight must start at multiples of 16 bytes");
  if (!args.moments) return HUNYUAN_OK;
  const int64_t width = args.groups > 0 && args.out_channels % args.groups == 0 ? args.out_channels / args.groups : 0;
  const int64_t columns = args.out_channels <= 32 ? 32 : 128;
  if (width == 0 || columns % width != 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: moments of %lld groups of %lld channels are not supported",
                number(args.groups), number(args.out_channels));
  return HUNYUAN_OK;
}

bool is_empty(const hunyuan_causal_conv3d_args& args) {
  const conv3d::Geometry g = conv3d::geometry_of(args);
  return g.batch * g.positions() == 0;
}

int run_on_cpu(const hunyuan_causal_conv3d_args& args, int threads) {
  const conv3d::Geometry g = conv3d::geometry_of(args);
  const int64_t depth = g.taps() * g.channels, rows = g.batch * g.out_frames * g.out_rows;
  const auto kernel = HUNYUAN_PICK(causal_conv3d_rows);
  const int64_t work = g.batch * g.positions() * g.out_channels * depth / 8;
  return parallel_columns(
             g.out_channels, rows, work, depth * 16, threads,
             [&](int64_t first, int64_t begin, int64_t end, float* packed) { kernel(args, first, begin, end, packed); })
             ? HUNYUAN_OK
             : fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: no memory for the packed weights of a thread");
}

}  // namespace
}  // namespace hunyuan

extern "C" int hunyuan_causal_conv3d(const hunyuan_causal_conv3d_args* args, hunyuan_target target) {
  using namespace hunyuan;
  const bool cpu = target.device < 0;
  if (const int status = check(*args, cpu)) return status;
  if (is_empty(*args)) return HUNYUAN_OK;
  return cpu ? run_on_cpu(*args, target.threads) : causal_conv3d_cuda(*args, target);
}

extern "C" int64_t hunyuan_causal_conv3d_moment_chunks(const hunyuan_causal_conv3d_args* args, hunyuan_target target) {
  using namespace hunyuan;
  int64_t chunks = 0;
  if (!is_empty(*args)) (void)causal_conv3d_moment_chunks_cuda(*args, target.device, &chunks);  // 0 where it fails
  return chunks;
}
