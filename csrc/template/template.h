// The template op: out = x * factor. Copy this folder to begin a new op; docs/add_an_op.md tells how.
#pragma once

#include "common/host/cuda_op.h"
#include "common/host/isa.h"
#include "hunyuan/template.h"

namespace hunyuan {

// CPU, one copy per instruction set: elements [begin, end).
HUNYUAN_KERNEL(template_scale_range, const hunyuan_template_scale_args& args, int64_t begin, int64_t end)

HUNYUAN_CUDA_OP(template_scale, const hunyuan_template_scale_args&, hunyuan_target)

}  // namespace hunyuan
