// The passes before FP8 attention, and where what they write lies in one buffer. Host-callable.
#pragma once

#include <stdint.h>

#include "hunyuan/attention.h"

namespace hunyuan::attention::sm90 {

constexpr int64_t kFp8Tile = 128;         // keys (and values) that share a scale: a tile of the kernel
constexpr int64_t kWorkspaceAlign = 256;  // bytes

// Byte offsets of the arrays; `heads` counts those of all samples, `blocks` key tiles.
struct Fp8Workspace {
  int64_t q, k, v;                    // e4m3 [heads, queries, D], [heads, keys, D], [heads, D, blocks * 128]
  int64_t q_scale, k_scale, v_scale;  // float [heads, queries], [heads, blocks], [heads, blocks]
  int64_t lse_shift;                  // float [heads, queries]
  int64_t mean, sums;                 // float [heads, D], [heads, blocks, D]
  int64_t bytes;
  int64_t heads, blocks;
};

constexpr Fp8Workspace fp8_workspace(const hunyuan_attention_args& args) {
  Fp8Workspace w{};
  w.heads = args.batch * args.heads;
  w.blocks = (args.keys + kFp8Tile - 1) / kFp8Tile;
  const auto place = [&w](int64_t bytes) {
    const int64_t offset = w.bytes;
    w.bytes += (bytes + kWorkspaceAlign - 1) / kWorkspaceAlign * kWorkspaceAlign;
    return offset;
  };
  w.q = place(w.heads * args.queries * args.head_dim);
  w.k = place(w.heads * args.keys * args.head_dim);
  w.v = place(w.heads * args.head_dim * w.blocks * kFp8Tile);
  w.q_scale = place(4 * w.heads * args.queries);
  w.k_scale = place(4 * w.heads * w.blocks);
  w.v_scale = place(4 * w.heads * w.blocks);
  w.lse_shift = place(4 * w.heads * args.queries);
  w.mean = place(4 * w.heads * args.head_dim);
  w.sums = place(4 * w.heads * w.blocks * args.head_dim);
  return w;
}

// From what the projections leave to codes and scales in the workspace. Norm, rotation and quantization of queries and
// keys; the keys lose their mean over tokens.
int norm_rope_quantize(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before,
                       const Fp8Workspace& layout, char* workspace, hunyuan_target target);
// Quantization and transposition of the values.
int quantize_values(const hunyuan_attention_args& args, const Fp8Workspace& layout, char* workspace,
                    hunyuan_target target);

}  // namespace hunyuan::attention::sm90
