// Kernels of the norm family, by target; chosen in <op>.cpp.
#pragma once

#include "common/host/cuda_op.h"
#include "common/host/isa.h"
#include "common/host/moments.h"
#include "hunyuan/norm.h"

namespace hunyuan {

// Count, mean and sum of squared distances from that mean of some elements.
struct Partial {
  double count, mean, squares;
};

// CPU, one copy per instruction set: rows [begin, end) of the batch * tokens rows.
HUNYUAN_KERNEL(layer_norm_modulate_rows, const hunyuan_layer_norm_modulate_args& args, int64_t begin, int64_t end)
HUNYUAN_KERNEL(gate_residual_rows, const hunyuan_gate_residual_args& args, int64_t begin, int64_t end)

// Statistics of x[start, start + count) as one group.
HUNYUAN_KERNEL(group_norm_run, const hunyuan_group_norm_silu_args& args, int64_t start, int64_t count, Partial& part)
// Statistics of `cells` positions of a channels-last tensor: parts[groups]; scratch holds 2 * channels floats.
HUNYUAN_KERNEL(group_norm_cells, const hunyuan_group_norm_silu_args& args, int64_t start, int64_t cells, float* scratch,
               Partial* parts)
// out[i] = silu((x[start + i] - mean) * scale + shift), `count` elements.
HUNYUAN_KERNEL(norm_silu_row, const hunyuan_group_norm_silu_args& args, int64_t start, int64_t count, float mean,
               float scale, float shift, void* out)
// The same for `cells` positions of a channels-last tensor; mean, scale, shift: [channels].
HUNYUAN_KERNEL(norm_silu_cells, const hunyuan_group_norm_silu_args& args, int64_t start, int64_t cells,
               const float* mean, const float* scale, const float* shift, void* out)

// Of `cells` positions of x [cells, channels]: sums[0..channels) of x - center, sums[channels..] of its square.
HUNYUAN_KERNEL(channel_sums, const void* x, hunyuan_dtype dtype, int64_t cells, int64_t channels, const float* center,
               float* sums)

// ---- Gradients; chosen in modulation_backward.cpp and gelu.cpp ----

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

// ---- CUDA ----

HUNYUAN_CUDA_OP(layer_norm_modulate, const hunyuan_layer_norm_modulate_args&, hunyuan_target)
HUNYUAN_CUDA_OP(gate_residual, const hunyuan_gate_residual_args&, hunyuan_target)
HUNYUAN_CUDA_OP(group_norm_silu, const hunyuan_group_norm_silu_args&, hunyuan_target)

// Bytes of its workspace: three coefficients a channel, and the moments unless the caller has them.
inline int64_t group_norm_silu_cuda_workspace(const hunyuan_group_norm_silu_args& args) {
  const ChunkPlan plan = chunk_plan(args.frames * args.rows * args.columns, args.channels);
  const int64_t parts = args.moments ? 0 : args.batch * plan.chunks * args.groups;
  return 3 * args.batch * args.channels * sizeof(float) + parts * sizeof(Moments);
}

}  // namespace hunyuan
