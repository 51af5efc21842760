// Kernels of the gradients around norms, by instruction set; chosen in modulation_backward.cpp and gelu.cpp.
#pragma once

#include "common/isa.h"
#include "hunyuan_training.h"

namespace hunyuan {

// Tokens [begin, end) of sample b. sums [2 * channels]: what they add to the gradients of shift and of scale.
HUNYUAN_KERNEL(layer_norm_backward_tokens, const hunyuan_layer_norm_modulate_backward_args& args, int64_t b,
               int64_t begin, int64_t end, float* sums)
// The same; sums [channels]: of the gate.
HUNYUAN_KERNEL(gate_backward_tokens, const hunyuan_gate_residual_backward_args& args, int64_t b, int64_t begin,
               int64_t end, float* sums)
// out[i] = the sum of `count` rows of `channels` floats, as the type of `out`.
HUNYUAN_KERNEL(add_rows, const float* rows, int64_t count, int64_t row_stride, int64_t channels, void* out,
               hunyuan_dtype dtype)
HUNYUAN_KERNEL(gelu_rows, const hunyuan_gelu_args& args, int64_t begin, int64_t end)

}  // namespace hunyuan
