// Which implicit matrix product runs on a device.
#include "common/cuda.cuh"
#include "conv3d/conv3d.h"

namespace hunyuan {
namespace {

int compute_capability(int device, int& major, int& minor) {
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return HUNYUAN_OK;
}

}  // namespace

int causal_conv3d_cuda(const hunyuan_causal_conv3d_args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  int major = 0, minor = 0;
  if (const int status = compute_capability(target.device, major, minor)) return status;
  if (conv3d::sm90_takes(args, major, minor)) return conv3d::sm90_causal_conv3d(args, target);
  if (major >= 8) return conv3d::sm80_causal_conv3d(args, target);
  return fail(HUNYUAN_BAD_ARGUMENT, "causal_conv3d: needs a GPU of compute capability 8.0 or later, this one has %d.%d",
              major, minor);
}

int64_t causal_conv3d_cuda_moment_chunks(const hunyuan_causal_conv3d_args& args, int device) {
  int major = 0, minor = 0;
  if (compute_capability(device, major, minor) != HUNYUAN_OK) return 0;
  return conv3d::sm90_takes(args, major, minor) ? conv3d::sm90_moment_chunks(args) : conv3d::sm80_moment_chunks(args);
}

}  // namespace hunyuan
