// Picks the attention kernel for the device of a call.
#include "attention/forward.h"
#include "common/cuda.cuh"

namespace hunyuan {

int attention_cuda(const hunyuan_attention_args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  int major = 0, minor = 0;
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, target.device));
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, target.device));
  if (major == 9 && minor == 0) return attention::forward_sm90(args, target);
  if (major == 8) return attention::forward_sm80(args, target);
  return fail(HUNYUAN_CUDA_ERROR,
              "attention: this device is sm_%d%d; the kernels are built for sm_80, sm_89 and sm_90a", major, minor);
}

}  // namespace hunyuan
