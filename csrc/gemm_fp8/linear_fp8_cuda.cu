// Which FP8 product runs on a device.
#include "common/cuda.cuh"
#include "gemm_fp8/gemm_fp8.h"

namespace hunyuan {

int linear_fp8_cuda(const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  int major = 0, minor = 0;
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, target.device));
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, target.device));
  if (major == 9) return gemm_fp8::sm90_linear_fp8(args, target);
  if (major == 8 && minor == 9) return gemm_fp8::sm89_linear_fp8(args, target);
  return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: needs a GPU of compute capability 8.9 or 9.0, this one has %d.%d",
              major, minor);
}

}  // namespace hunyuan
