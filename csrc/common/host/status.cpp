#include "common/host/status.h"

#include <cstdarg>
#include <cstdio>

namespace {
thread_local char last_error[512] = "";
}

namespace hunyuan {

int fail(hunyuan_status status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return status;
}

int no_cuda(const char* op) {
  return fail(HUNYUAN_NO_CUDA,
              "%s: hunyuan_ext was built without CUDA kernels; rebuild it where nvcc is on PATH with HUNYUAN_CUDA=ON",
              op);
}

}  // namespace hunyuan

extern "C" {
int hunyuan_abi_version(void) { return HUNYUAN_ABI_VERSION; }

const char* hunyuan_last_error(void) { return last_error; }

#if !defined(HUNYUAN_WITH_CUDA)  // else: common/cuda/device.cu
const char* hunyuan_built_cuda_archs(void) { return ""; }
int hunyuan_cuda_device_count(void) { return 0; }
#endif
}
