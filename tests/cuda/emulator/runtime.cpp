// The parts of the CUDA runtime and driver that host code calls, for a machine that has neither.
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstring>

#include "emulated_map.h"
#include "runtime.h"

namespace {

// cuTensorMapEncodeTiled, with the checks that the driver documents for the cases we use.
CUresult encode_tiled(CUtensorMap* out, CUtensorMapDataType type, cuuint32_t dims, void* data, const cuuint64_t* size,
                      const cuuint64_t* stride_bytes, const cuuint32_t* box, const cuuint32_t* step,
                      CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                      CUtensorMapFloatOOBfill) {
  const bool one_byte = type == CU_TENSOR_MAP_DATA_TYPE_UINT8;
  const bool two_bytes = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  if (dims < 3 || dims > 5 || !(one_byte || two_bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || swizzle != CU_TENSOR_MAP_SWIZZLE_128B) return CUDA_ERROR_INVALID_VALUE;
  if (reinterpret_cast<uintptr_t>(data) % 16) return CUDA_ERROR_INVALID_VALUE;
  emulator::TensorMap map{};
  map.data = static_cast<const char*>(data), map.dims = static_cast<uint8_t>(dims), map.element_bytes = one_byte ? 1 : 2;
  for (cuuint32_t d = 0; d < dims; ++d) {
    if (size[d] == 0 || size[d] > 1ull << 32 || box[d] == 0 || box[d] > 256 || step[d] == 0 || step[d] > 8)
      return CUDA_ERROR_INVALID_VALUE;
    map.size[d] = static_cast<uint32_t>(size[d]), map.box[d] = box[d], map.step[d] = static_cast<uint8_t>(step[d]);
    if (d == 0) continue;
    if (stride_bytes[d - 1] % 16 || stride_bytes[d - 1] >= 1ull << 40) return CUDA_ERROR_INVALID_VALUE;
    map.stride[d - 1] = static_cast<int64_t>(stride_bytes[d - 1]);
  }
  if (stride_bytes[0] < size[0] * map.element_bytes) return CUDA_ERROR_INVALID_VALUE;  // rows must not overlap
  if (map.box[0] * map.element_bytes != 128 || step[0] != 1) return CUDA_ERROR_INVALID_VALUE;  // our kernels' only case
  std::memcpy(out, &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {
cudaError_t cudaGetDevice(int* device) {
  return *device = emulator::runtime.current, static_cast<cudaError_t>(emulator::runtime.refusal);
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulator::runtime.devices) return cudaErrorInvalidDevice;
  return emulator::runtime.current = device, cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) { return *count = emulator::runtime.devices, cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
const char* cudaGetErrorName(cudaError_t) { return "emulated"; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int capability = emulator::runtime.capability;
  // Four multiprocessors: persistent kernels then walk over several tiles even in small tests.
  *value = attribute == cudaDevAttrMultiProcessorCount           ? 4
           : attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10
           : attribute == cudaDevAttrComputeCapabilityMinor ? capability % 10
                                                            : 0;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  *function = reinterpret_cast<void*>(&encode_tiled);
  if (found) *found = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
}
