// The passes that prepare FP8 attention: from what the projections leave to codes and scales in the workspace.
#pragma once

#include <cuda_runtime.h>

#include "attention/sm90/fp8_workspace.h"
#include "hunyuan_attention_fp8.h"

namespace hunyuan::attention::sm90 {

// Norm, rotation and quantisation of queries and keys; the keys lose their mean over tokens.
int norm_rope_quantize(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before,
                       const Fp8Workspace& layout, char* workspace, cudaStream_t stream);
// Quantisation and transposition of the values.
int quantize_values(const hunyuan_attention_args& args, const Fp8Workspace& layout, char* workspace,
                    cudaStream_t stream);

}  // namespace hunyuan::attention::sm90
