// Picks the attention kernel for the device of a call.
#include "attention/forward.h"
#include "attention/sm80/tile.h"
#include "common/cuda.cuh"

namespace hunyuan {

namespace {

// Compute capability, "90" for 9.0.
int capability_of(int device, int* capability) {
  int major = 0, minor = 0;
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  *capability = 10 * major + minor;
  return HUNYUAN_OK;
}

}  // namespace

int attention_cuda(const hunyuan_attention_args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  int capability = 0;
  const int status = capability_of(target.device, &capability);
  if (status != HUNYUAN_OK) return status;
  if (capability == 90) return attention::forward_sm90(args, target);
  if (capability / 10 == 8) return attention::forward_sm80(args, target, attention::sm80::warps_for(capability % 10));
  return fail(HUNYUAN_CUDA_ERROR, "attention: this device is sm_%d; the kernels are built for sm_80, sm_89 and sm_90a",
              capability);
}

int attention_fp8_cuda(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before, void* workspace,
                       hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  int capability = 0;
  const int status = capability_of(target.device, &capability);
  if (status != HUNYUAN_OK) return status;
  if (capability == 90) return attention::forward_fp8_sm90(args, before, workspace, target);
  return fail(HUNYUAN_CUDA_ERROR, "attention: this device is sm_%d; the FP8 kernel is built for sm_90a", capability);
}

}  // namespace hunyuan
