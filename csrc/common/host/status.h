// Errors: a status code for the caller and one line of text per thread.
#pragma once

#include "hunyuan/types.h"

namespace hunyuan {

// Stores the printf-style text for hunyuan_last_error() and returns `status`.
[[gnu::format(printf, 2, 3)]] int fail(hunyuan_status status, const char* format, ...);

// HUNYUAN_NO_CUDA, with how to get the kernels.
int no_cuda(const char* op);

}  // namespace hunyuan
