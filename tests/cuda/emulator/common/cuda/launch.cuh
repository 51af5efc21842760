// common/launch.cuh for the emulator: runs the kernel here and now.
#pragma once

#include "common/host/status.h"
#include "emulator.h"
#include "runtime.h"

namespace hunyuan {

struct LaunchShape {
  int64_t blocks;
  unsigned threads;
  size_t shared_bytes = 0;
  unsigned cluster = 1;
};

template <class... Parameters, class... Arguments>
int launch(const char* op, const LaunchShape& shape, cudaStream_t stream, void (*kernel)(Parameters...),
           const Arguments&... args) {
  ::emulator::runtime.launched(stream);
  const std::string error =
      ::emulator::run(shape.blocks, shape.threads, shape.shared_bytes, shape.cluster, [&] { kernel(args...); });
  return error.empty() ? HUNYUAN_OK : fail(HUNYUAN_CUDA_ERROR, "%s: %s", op, error.c_str());
}

// Four multiprocessors: persistent kernels then walk over several tiles even in small tests.
template <class... Parameters>
int resident_blocks(const char*, const LaunchShape&, int, void (*)(Parameters...), int* blocks) {
  *blocks = 4;
  return HUNYUAN_OK;
}

namespace device {
inline char* dynamic_shared() { return ::emulator::thread().block->shared; }
}  // namespace device

}  // namespace hunyuan
