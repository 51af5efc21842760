// Kernels of the convolution family, by target; chosen in <op>.cpp.
#pragma once

#include "common/host/cuda_op.h"
#include "common/host/isa.h"
#include "hunyuan/conv3d.h"

namespace hunyuan {

// CPU: 16 output channels from `first` for rows [begin, end) of batch * frames' * rows' of the output; `packed` has 16
// floats for every weight of an output channel.
HUNYUAN_KERNEL(causal_conv3d_rows, const hunyuan_causal_conv3d_args& args, int64_t first, int64_t begin, int64_t end,
               float* packed)

HUNYUAN_CUDA_OP(pad_causal, const hunyuan_pad_causal_args&, hunyuan_target)
HUNYUAN_CUDA_OP(causal_conv3d, const hunyuan_causal_conv3d_args&, hunyuan_target)
// Chunks of a sample in `moments` on device number `int`.
HUNYUAN_CUDA_OP(causal_conv3d_moment_chunks, const hunyuan_causal_conv3d_args&, int, int64_t*)

namespace conv3d {

// The two implicit GEMMs; causal_conv3d_cuda takes the first that takes the problem: wgmma (sm90/), else mma.sync
// (cuda/), which runs on every architecture.
bool sm90_takes(const hunyuan_causal_conv3d_args& args, int capability);
int sm90_causal_conv3d(const hunyuan_causal_conv3d_args& args, hunyuan_target target);
int64_t sm90_moment_chunks(const hunyuan_causal_conv3d_args& args);
int mma_causal_conv3d(const hunyuan_causal_conv3d_args& args, hunyuan_target target);
int64_t mma_moment_chunks(const hunyuan_causal_conv3d_args& args);

}  // namespace conv3d
}  // namespace hunyuan
