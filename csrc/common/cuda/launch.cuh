// Kernel launches: one place that sets the dynamic shared memory and the cluster and turns the runtime's answer into
// a status. Kernels are started through here only, so that tests/cuda/emulator can run them on a CPU.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#include <map>
#include <mutex>
#include <tuple>

#include "common/cuda/cuda.cuh"
#include "common/host/status.h"

namespace hunyuan {

struct LaunchShape {
  int64_t blocks;           // grid size; blocks of a cluster are neighbors
  unsigned threads;         // of a block
  size_t shared_bytes = 0;  // dynamic shared memory of a block
  unsigned cluster = 1;     // blocks of a cluster
};

// The launch configuration of a shape; `cluster` is storage for its attribute.
inline cudaLaunchConfig_t launch_config(const LaunchShape& shape, cudaLaunchAttribute* cluster) {
  cluster->id = cudaLaunchAttributeClusterDimension;
  cluster->val.clusterDim.x = shape.cluster, cluster->val.clusterDim.y = 1, cluster->val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.attrs = cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  return config;
}

inline cudaError_t allow_shared_bytes(const void* kernel, size_t bytes) {
  if (bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

// Starts kernel(args...) on `stream`; `op` names the operation in error messages.
template <class... Parameters, class... Arguments>
int launch(const char* op, const LaunchShape& shape, cudaStream_t stream, void (*kernel)(Parameters...),
           const Arguments&... args) {
  if (shape.blocks <= 0) return HUNYUAN_OK;
  if (shape.blocks > 0x7fffffff)
    return fail(HUNYUAN_BAD_ARGUMENT, "%s: needs %lld thread blocks, a launch has at most 2147483647", op,
                static_cast<long long>(shape.blocks));
  cudaLaunchAttribute cluster{};
  cudaLaunchConfig_t config = launch_config(shape, &cluster);
  config.stream = stream;
  cudaError_t error = allow_shared_bytes(reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, args...);
  return error == cudaSuccess ? HUNYUAN_OK : cuda_failed(op, error);
}

// How many blocks of this shape (whose `blocks` is not read) a device runs at once, in whole clusters: the grid of a
// persistent kernel with one block a multiprocessor. Asked once for a kernel, device and size of cluster.
template <class... Parameters>
int resident_blocks(const char* op, LaunchShape shape, int device, void (*kernel)(Parameters...), int* blocks) {
  static std::mutex lock;
  static std::map<std::tuple<const void*, int, unsigned>, int> known;
  const void* address = reinterpret_cast<const void*>(kernel);
  const std::lock_guard<std::mutex> guard(lock);
  int& answer = known[{address, device, shape.cluster}];
  if (answer == 0) {
    int processors = 0, clusters = 0;
    cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    clusters = processors;
    if (error == cudaSuccess && shape.cluster > 1) {
      error = allow_shared_bytes(address, shape.shared_bytes);
      shape.blocks = processors / shape.cluster * shape.cluster;
      cudaLaunchAttribute cluster{};
      const cudaLaunchConfig_t config = launch_config(shape, &cluster);
      if (error == cudaSuccess) error = cudaOccupancyMaxActiveClusters(&clusters, kernel, &config);
    }
    if (error != cudaSuccess) return cuda_failed(op, error);
    if (clusters == 0) return fail(HUNYUAN_CUDA_ERROR, "%s: this device has no room for its thread blocks", op);
    answer = clusters * static_cast<int>(shape.cluster);
  }
  *blocks = answer;
  return HUNYUAN_OK;
}

namespace device {

// The block's dynamic shared memory; kernels that need more than 16-byte alignment round it up themselves.
__device__ inline char* dynamic_shared() {
  extern __shared__ __align__(16) char hunyuan_dynamic_shared[];
  return hunyuan_dynamic_shared;
}

}  // namespace device
}  // namespace hunyuan
