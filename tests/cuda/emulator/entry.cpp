// C entries of the emulated kernels, one an op; called by tests/cuda/emulated.py.
#include <vector>

#include "attention/attention.h"
#include "attention/forward.h"
#include "attention/sm90/fp8_workspace.h"
#include "common/status.h"
#include "conv3d/conv3d.h"
#include "gemm_fp8/gemm_fp8.h"
#include "norm/norm.h"

using namespace hunyuan;

namespace {
constexpr hunyuan_target kDevice{0, nullptr, 1};
}

#define HUNYUAN_EMULATED(op) \
  extern "C" int emulated_##op(const hunyuan_##op##_args* args) { return op##_cuda(*args, kDevice); }

HUNYUAN_EMULATED(layer_norm_modulate)
HUNYUAN_EMULATED(gate_residual)
HUNYUAN_EMULATED(group_norm_silu)
HUNYUAN_EMULATED(pad_causal)
HUNYUAN_EMULATED(quantize_rows)
HUNYUAN_EMULATED(qk_norm_rope)

extern "C" int64_t emulated_group_norm_silu_workspace(const hunyuan_group_norm_silu_args* args) {
  return group_norm_silu_cuda_workspace(*args);
}

// Kernels of one architecture, whatever the emulated device says it is.
#define HUNYUAN_EMULATED_ON(arch, family, op) \
  extern "C" int emulated_##arch##_##op(const hunyuan_##op##_args* args) { return family::arch##_##op(*args, kDevice); }

HUNYUAN_EMULATED_ON(sm80, conv3d, causal_conv3d)
HUNYUAN_EMULATED_ON(sm90, conv3d, causal_conv3d)
HUNYUAN_EMULATED_ON(sm89, gemm_fp8, linear_fp8)
HUNYUAN_EMULATED_ON(sm90, gemm_fp8, linear_fp8)

extern "C" int64_t emulated_sm80_moment_chunks(const hunyuan_causal_conv3d_args* args) { return conv3d::sm80_moment_chunks(*args); }
extern "C" int64_t emulated_sm90_moment_chunks(const hunyuan_causal_conv3d_args* args) { return conv3d::sm90_moment_chunks(*args); }

extern "C" int emulated_sm80_attention(const hunyuan_attention_args* args) {
  return attention::forward_sm80(*args, kDevice, 4);
}
extern "C" int emulated_sm86_attention(const hunyuan_attention_args* args) {
  return attention::forward_sm80(*args, kDevice, 8);
}
extern "C" int emulated_sm90_attention(const hunyuan_attention_args* args) { return attention::forward_sm90(*args, kDevice); }
extern "C" int emulated_fp8_attention(const hunyuan_attention_args* args) {
  std::vector<char> workspace(attention::sm90::fp8_workspace(*args).bytes + 256, static_cast<char>(0xff));  // NaN
  char* aligned = workspace.data() + (256 - reinterpret_cast<uintptr_t>(workspace.data()) % 256);
  return attention::forward_fp8_sm90(*args, aligned, kDevice);
}
