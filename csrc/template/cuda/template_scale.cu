// x * factor: a thread an element, bound by memory. Kernels worth their file move 16 bytes a thread: norm/cuda/.
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"
#include "template/template.h"

namespace hunyuan {
namespace {

using namespace device;

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) scale_kernel(const hunyuan_template_scale_args args) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < args.count)
    static_cast<T*>(args.out)[i] = from_float<T>(to_float(static_cast<const T*>(args.x)[i]) * args.factor);
}

template <class T>
int launch_dtype(const hunyuan_template_scale_args& args, cudaStream_t stream) {
  return launch("template_scale", {(args.count + kThreads - 1) / kThreads, kThreads}, stream, scale_kernel<T>, args);
}

}  // namespace

int template_scale_cuda(const hunyuan_template_scale_args& args, hunyuan_target target) {
  return for_dtype("template_scale", args.dtype, target, [&args](auto element, cudaStream_t stream) {
    return launch_dtype<decltype(element)>(args, stream);
  });
}

}  // namespace hunyuan
