// Kernels of the attention family, by target; chosen in <op>.cpp.
#pragma once

#include "common/isa.h"
#include "hunyuan_ext.h"

namespace hunyuan {

// RMSNorm weights as float32, [head_dim] each; null where the tokens are not normalised.
struct QkNormWeights {
  const float* video;
  const float* text;
};

// CPU, one copy per instruction set: tokens [begin, end) of the batch * tokens; weights[2] for q and k.
HUNYUAN_KERNEL(qk_norm_rope_tokens, const hunyuan_qk_norm_rope_args& args, const QkNormWeights* weights, int64_t begin,
               int64_t end)

// CUDA, in sm80/ or in common/cuda_absent.cpp.
int qk_norm_rope_cuda(const hunyuan_qk_norm_rope_args& args, hunyuan_target target);

}  // namespace hunyuan
