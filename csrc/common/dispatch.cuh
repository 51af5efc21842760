// What the entry points of the element-wise CUDA kernels share: device, stream, element type, threads of a row.
#pragma once

#include "common/cuda.cuh"

namespace hunyuan {

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
