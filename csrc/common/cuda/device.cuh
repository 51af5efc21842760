// What a family's select.cu needs: the device of a call and its compute capability.
#pragma once

#include "common/cuda/cuda.cuh"

namespace hunyuan {

// Compute capability of a device: 90 for 9.0.
int device_capability(int device, int* capability);

// Fails: `op` has kernels for the compute capabilities `needed` only, such as "8.9 or 9.0".
int no_kernel_for(const char* op, int capability, const char* needed);

// select(capability) while the device is current.
template <class Select>
int on_device(int device, const Select& select) {
  const DeviceGuard guard(device);
  HUNYUAN_CUDA_CHECK(guard.error);
  int capability = 0;
  if (const int status = device_capability(device, &capability)) return status;
  return select(capability);
}

}  // namespace hunyuan
