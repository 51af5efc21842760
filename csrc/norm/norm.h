// Kernels of the norm family, by target; chosen in <op>.cpp.
#pragma once

#include "common/isa.h"
#include "hunyuan_ext.h"
#include "hunyuan_moments.h"

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

// Of `cells` positions of x [cells, channels]: sums[0..channels) of x - centre, sums[channels..] of its square.
HUNYUAN_KERNEL(channel_sums, const void* x, hunyuan_dtype dtype, int64_t cells, int64_t channels, const float* centre,
               float* sums)

// CUDA, in sm80/ or in common/cuda_absent.cpp.
int layer_norm_modulate_cuda(const hunyuan_layer_norm_modulate_args& args, hunyuan_target target);
int gate_residual_cuda(const hunyuan_gate_residual_args& args, hunyuan_target target);
int group_norm_silu_cuda(const hunyuan_group_norm_silu_args& args, hunyuan_target target);
int64_t group_norm_silu_cuda_workspace(const hunyuan_group_norm_silu_args& args);

}  // namespace hunyuan
