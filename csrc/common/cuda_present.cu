// What the CUDA build can say about itself and the machine.
#include "common/cuda.cuh"

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
