// Kernels of the norm family, by target; chosen in <op>.cpp.
#pragma once

#include "common/isa.h"
#include "hunyuan_ext.h"

namespace hunyuan {

// CPU, one copy per instruction set: rows [begin, end) of the batch * tokens rows.
HUNYUAN_KERNEL(layer_norm_modulate_rows, const hunyuan_layer_norm_modulate_args& args, int64_t begin, int64_t end)
HUNYUAN_KERNEL(gate_residual_rows, const hunyuan_gate_residual_args& args, int64_t begin, int64_t end)

// CUDA, in sm80/ or in common/cuda_absent.cpp.
int layer_norm_modulate_cuda(const hunyuan_layer_norm_modulate_args& args, hunyuan_target target);
int gate_residual_cuda(const hunyuan_gate_residual_args& args, hunyuan_target target);

}  // namespace hunyuan
