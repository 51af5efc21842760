// What every .cu file needs: error reporting, the device guard, element conversion, 16-byte vectors, block sums.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "common/host/status.h"

// Returns from the calling function with a status and one sentence when a call of the runtime fails.
#define HUNYUAN_CUDA_CHECK(call)                                                     \
  do {                                                                               \
    const cudaError_t error_ = (call);                                               \
    if (error_ != cudaSuccess) return ::hunyuan::cuda_failed("hunyuan_ext", error_); \
  } while (0)

namespace hunyuan {

// One sentence for an error of the runtime; `what` failed. Clears it, where it can be cleared.
inline int cuda_failed(const char* what, cudaError_t error) {
  (void)cudaGetLastError();
  if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice)
    return fail(HUNYUAN_CUDA_ERROR, "%s: there is no CUDA device, or its driver is older than this build", what);
  if (error == cudaErrorInvalidDevice)
    return fail(HUNYUAN_CUDA_ERROR, "%s: the CUDA device of the tensors does not exist", what);
  if (error == cudaErrorNoKernelImageForDevice)
    return fail(HUNYUAN_CUDA_ERROR,
                "%s: has no kernel for the architecture of this device; hunyuan_ext.capabilities() "
                "lists those that were built",
                what);
  return fail(HUNYUAN_CUDA_ERROR, "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

// Makes `device` current for a scope; `error` says whether that worked.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    error = cudaGetDevice(&previous_);
    if (error == cudaSuccess && previous_ != device) {
      error = cudaSetDevice(device);
      switched_ = error == cudaSuccess;
    }
  }
  ~DeviceGuard() {
    if (switched_) (void)cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  cudaError_t error;

 private:
  int previous_ = -1;
  bool switched_ = false;
};

namespace device {

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

// `kCount` elements moved by one load or store: 16 bytes of them, or one where the address is not aligned for that.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T element[kCount];
  static constexpr int count = kCount;
};
template <class T>
using Pack16 = Pack<T, 16 / sizeof(T)>;

// `value` combined over all threads of the block, in every thread. blockDim.x is a multiple of 32, at most 1024;
// `scratch` holds 32 floats and may be reused after the call. `identity` leaves a value as it is.
template <class Combine>
__device__ float block_reduce(float value, float identity, float* scratch, Combine combine) {
  for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  if (warps == 1) return value;
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  value = lane < warps ? scratch[lane] : identity;
  for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  __syncthreads();
  return value;
}

__device__ inline float block_sum(float value, float* scratch) {
  return block_reduce(value, 0.0f, scratch, [](float a, float b) { return a + b; });
}
__device__ inline float block_max(float value, float* scratch) {
  return block_reduce(value, -INFINITY, scratch, [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace device

// Whether `pointer` and rows `stride` elements apart can be read 16 bytes at a time.
template <class T>
bool aligned16(const void* pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride * static_cast<int64_t>(sizeof(T)) % 16 == 0;
}

// run(element, stream) on the target's device, with an element of the type that `dtype` names; `op` names the operation
// in error messages.
template <class Run>
int for_dtype(const char* op, hunyuan_dtype dtype, hunyuan_target target, const Run& run) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  const auto stream = static_cast<cudaStream_t>(target.stream);
  switch (dtype) {
    case HUNYUAN_F32:
      return run(float{}, stream);
    case HUNYUAN_BF16:
      return run(__nv_bfloat16{}, stream);
    case HUNYUAN_F16:
      return run(__half{}, stream);
    default:
      return fail(HUNYUAN_BAD_DTYPE, "%s: the CUDA kernel takes float32, bfloat16 or float16", op);
  }
}

// Threads, in whole warps, of which each takes `per_thread` of the packs of a row.
inline int64_t threads_of_row(int64_t packs, int64_t per_thread) {
  const int64_t wanted = (packs + per_thread - 1) / per_thread;
  return (wanted + 31) / 32 * 32;
}

}  // namespace hunyuan
