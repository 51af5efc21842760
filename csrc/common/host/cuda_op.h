// The CUDA side of an op, as its checks see it: HUNYUAN_CUDA_OP(my_op, const hunyuan_my_op_args&, hunyuan_target)
// declares my_op_cuda, which the family's .cu files define. A build without CUDA kernels gets a function that says so.
#pragma once

#include "common/host/status.h"

#if defined(HUNYUAN_WITH_CUDA) || defined(__CUDACC__)
#define HUNYUAN_CUDA_OP(op, ...) int op##_cuda(__VA_ARGS__);
#else
#define HUNYUAN_CUDA_OP(op, ...) \
  [[maybe_unused]] static int op##_cuda(__VA_ARGS__) { return ::hunyuan::no_cuda(#op); }
#endif
