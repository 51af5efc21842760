// What the CUDA build can say about itself and the machine.
#include "common/cuda/device.cuh"

namespace hunyuan {

int device_capability(int device, int* capability) {
  int major = 0, minor = 0;
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  *capability = 10 * major + minor;
  return HUNYUAN_OK;
}

int no_kernel_for(const char* op, int capability, const char* needed) {
  return fail(HUNYUAN_CUDA_ERROR, "%s: needs a GPU of compute capability %s, this one has %d.%d", op, needed,
              capability / 10, capability % 10);
}

}  // namespace hunyuan

extern "C" {

const char* hunyuan_built_cuda_archs(void) { return HUNYUAN_CUDA_ARCHS; }

int hunyuan_cuda_device_count(void) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();  // no driver or no device: the CPU kernels are all there is
    return 0;
  }
  return count;
}
}
