// The attention family: what the checks in <op>.cpp and the kernels of each target share. Host-callable.
#pragma once

#include <stdint.h>

#include "common/host/cuda_op.h"
#include "common/host/isa.h"
#include "hunyuan/attention.h"

namespace hunyuan {

// RMSNorm weights as float32, [head_dim] each; null where the tokens are not normalized.
struct QkNormWeights {
  const float* video;
  const float* text;
};

// CPU, one copy per instruction set: tokens [begin, end) of the batch * tokens; weights[2] for q and k.
HUNYUAN_KERNEL(qk_norm_rope_tokens, const hunyuan_qk_norm_rope_args& args, const QkNormWeights* weights, int64_t begin,
               int64_t end)

HUNYUAN_CUDA_OP(qk_norm_rope, const hunyuan_qk_norm_rope_args&, hunyuan_target)
// Both pick the kernel of the target's device.
HUNYUAN_CUDA_OP(attention, const hunyuan_attention_args&, hunyuan_target)
HUNYUAN_CUDA_OP(attention_fp8, const hunyuan_attention_args&, const hunyuan_norm_rope_args&, void*, hunyuan_target)

}  // namespace hunyuan

namespace hunyuan::attention {

// Scores are exponentiated as powers of two: exp(scale * x) = 2 ^ (factor * x).
inline float exponent_factor(float scale) { return scale * 1.4426950408889634f; }

// Tiles of `rows` queries over all heads and samples.
inline int64_t work_count(const hunyuan_attention_args& args, int64_t rows) {
  return args.batch * args.heads * ((args.queries + rows - 1) / rows);
}

// Block masks are in multiples of this many queries and keys: the tiles of every kernel divide it.
constexpr int64_t kMaskTile = 128;

// Compute capability 8.x; `warps` of a thread block: 4 or 8, what warps_for (sm80/tile.h) says for the device.
int forward_sm80(const hunyuan_attention_args& args, hunyuan_target target, int warps);
// 9.0
int forward_sm90(const hunyuan_attention_args& args, hunyuan_target target);
int forward_fp8_sm90(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before, void* workspace,
                     hunyuan_target target);

}  // namespace hunyuan::attention
