// Kernel launches: one place that sets the dynamic shared memory and the cluster and turns the runtime's answer into
// a status. Kernels are started through here only, so that tests/cuda/emulator can run them on a CPU.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#include "common/status.h"

namespace hunyuan {

struct LaunchShape {
  int64_t blocks;            // grid size; blocks of a cluster are neighbours
  unsigned threads;          // of a block
  size_t shared_bytes = 0;   // dynamic shared memory of a block
  unsigned cluster = 1;      // blocks of a cluster
};

// Starts kernel(args...) on `stream`; `op` names the operation in error messages.
template <class... Parameters, class... Arguments>
int launch(const char* op, const LaunchShape& shape, cudaStream_t stream, void (*kernel)(Parameters...),
           const Arguments&... args) {
  if (shape.blocks <= 0) return HUNYUAN_OK;
  if (shape.blocks > 0x7fffffff)
    return fail(HUNYUAN_BAD_ARGUMENT, "%s: needs %lld thread blocks, a launch has at most 2147483647", op,
                static_cast<long long>(shape.blocks));
  cudaError_t error = cudaSuccess;
  if (shape.shared_bytes > 48 * 1024)
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared_bytes));
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = shape.cluster, cluster.val.clusterDim.y = 1, cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, args...);
  if (error == cudaSuccess) return HUNYUAN_OK;
  (void)cudaGetLastError();
  return fail(HUNYUAN_CUDA_ERROR, "%s: %s (%s)", op, cudaGetErrorString(error), cudaGetErrorName(error));
}

namespace device {

// The block's dynamic shared memory; kernels that need more than 16-byte alignment round it up themselves.
__device__ inline char* dynamic_shared() {
  extern __shared__ __align__(16) char hunyuan_dynamic_shared[];
  return hunyuan_dynamic_shared;
}

}  // namespace device
}  // namespace hunyuan
