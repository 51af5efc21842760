// The passes that prepare FP8 attention.
#pragma once

#include <cuda_runtime.h>

#include "attention/sm90/fp8_workspace.h"

namespace hunyuan::attention::sm90 {

// Fills the codes, scales and shifts of `workspace`; args.q, k, v are bf16, head_dim is 128.
int quantize_fp8(const hunyuan_attention_args& args, const Fp8Workspace& layout, char* workspace, cudaStream_t stream);

}  // namespace hunyuan::attention::sm90
