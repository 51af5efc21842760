// Attention forward: what the checks in attention.cpp and the kernels of each architecture share. Host-callable.
#pragma once

#include <stdint.h>

#include "hunyuan_attention_fp8.h"

namespace hunyuan::attention {

// Scores are exponentiated as powers of two: exp(scale * x) = 2 ^ (factor * x).
inline float exponent_factor(float scale) { return scale * 1.4426950408889634f; }

// Tiles of `rows` queries over all heads and samples.
inline int64_t work_count(const hunyuan_attention_args& args, int64_t rows) {
  return args.batch * args.heads * ((args.queries + rows - 1) / rows);
}

// Block lists are in multiples of this many queries and keys: the tiles of every kernel divide it.
constexpr int64_t kListTile = 128;

// Compute capability 8.x; `warps` of a thread block: 4 or 8, what warps_for (sm80/tile.h) says for the device.
int forward_sm80(const hunyuan_attention_args& args, hunyuan_target target, int warps);
// 9.0
int forward_sm90(const hunyuan_attention_args& args, hunyuan_target target);
int forward_fp8_sm90(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before, void* workspace,
                     hunyuan_target target);

}  // namespace hunyuan::attention

namespace hunyuan {

// Picks the kernel of the target's device; in attention_cuda.cu or common/cuda_absent.cpp.
int attention_cuda(const hunyuan_attention_args& args, hunyuan_target target);
int attention_fp8_cuda(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before, void* workspace,
                       hunyuan_target target);

}  // namespace hunyuan
