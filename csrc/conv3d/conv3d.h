// Kernels of the convolution family, by target; chosen in <op>.cpp.
#pragma once

#include "hunyuan_ext.h"

namespace hunyuan {

// CUDA; in sm80/ or in common/cuda_absent.cpp.
int causal_conv3d_cuda(const hunyuan_causal_conv3d_args& args, hunyuan_target target);
int64_t causal_conv3d_cuda_moment_chunks(const hunyuan_causal_conv3d_args& args, int device);
int pad_causal_cuda(const hunyuan_pad_causal_args& args, hunyuan_target target);

namespace conv3d {

// The two implicit GEMMs; causal_conv3d_cuda takes the first that takes the problem.
bool sm90_takes(const hunyuan_causal_conv3d_args& args, int major, int minor);
int sm90_causal_conv3d(const hunyuan_causal_conv3d_args& args, hunyuan_target target);
int64_t sm90_moment_chunks(const hunyuan_causal_conv3d_args& args);
int sm80_causal_conv3d(const hunyuan_causal_conv3d_args& args, hunyuan_target target);
int64_t sm80_moment_chunks(const hunyuan_causal_conv3d_args& args);

}  // namespace conv3d
}  // namespace hunyuan
