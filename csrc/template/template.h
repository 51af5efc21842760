// The template op: out = x * factor. Copy this folder to begin a new op; docs/add_an_op.md tells how.
#pragma once

#include "common/isa.h"
#include "hunyuan_ext.h"

namespace hunyuan {

// CPU, one copy per instruction set: elements [begin, end).
HUNYUAN_KERNEL(template_scale_range, const hunyuan_template_scale_args& args, int64_t begin, int64_t end)

// CUDA, in sm80/ or in common/cuda_absent.cpp.
int template_scale_cuda(const hunyuan_template_scale_args& args, hunyuan_target target);

}  // namespace hunyuan
