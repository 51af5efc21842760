// The C ABI for emulated.binding(): tensors of the CPU go to the kernels of the emulated device 0.
#include "attention/attention.h"
#include "conv3d/conv3d.h"
#include "linear/linear.h"
#include "norm/norm.h"

using namespace hunyuan;

namespace {
constexpr hunyuan_target kDevice{0, nullptr, 1};
}

extern "C" {
int hunyuan_layer_norm_modulate(const hunyuan_layer_norm_modulate_args* args, hunyuan_target) {
  return layer_norm_modulate_cuda(*args, kDevice);
}
int hunyuan_gate_residual(const hunyuan_gate_residual_args* args, hunyuan_target) {
  return gate_residual_cuda(*args, kDevice);
}
int hunyuan_group_norm_silu(const hunyuan_group_norm_silu_args* args, hunyuan_target) {
  return group_norm_silu_cuda(*args, kDevice);
}
int64_t hunyuan_group_norm_silu_workspace(const hunyuan_group_norm_silu_args* args, hunyuan_target) {
  return group_norm_silu_cuda_workspace(*args);
}
int hunyuan_pad_causal(const hunyuan_pad_causal_args* args, hunyuan_target) { return pad_causal_cuda(*args, kDevice); }

int hunyuan_qk_norm_rope(const hunyuan_qk_norm_rope_args* args, hunyuan_target) {
  return qk_norm_rope_cuda(*args, kDevice);
}

// Defined in checked_attention.cpp, checked_conv.cpp and checked_linear.cpp.
int checked_attention(const hunyuan_attention_args* args, hunyuan_target target);
int checked_attention_fp8(const hunyuan_attention_args* args, const hunyuan_norm_rope_args* before, void* workspace,
                          hunyuan_target target);
int64_t checked_attention_fp8_workspace(const hunyuan_attention_args* args);
int checked_causal_conv3d(const hunyuan_causal_conv3d_args* args, hunyuan_target target);
int64_t checked_causal_conv3d_moment_chunks(const hunyuan_causal_conv3d_args* args, hunyuan_target target);
int checked_linear_fp8(const hunyuan_linear_fp8_args* args, hunyuan_target target);
int checked_linear_few_rows(const hunyuan_linear_few_rows_args* args, hunyuan_target target);
int checked_quantize_rows(const hunyuan_quantize_rows_args* args, hunyuan_target target);

int hunyuan_causal_conv3d(const hunyuan_causal_conv3d_args* args, hunyuan_target) {
  return checked_causal_conv3d(args, kDevice);
}
int64_t hunyuan_causal_conv3d_moment_chunks(const hunyuan_causal_conv3d_args* args, hunyuan_target) {
  return checked_causal_conv3d_moment_chunks(args, kDevice);
}
int hunyuan_linear_fp8(const hunyuan_linear_fp8_args* args, hunyuan_target) { return checked_linear_fp8(args, kDevice); }
int hunyuan_linear_few_rows(const hunyuan_linear_few_rows_args* args, hunyuan_target) {
  return checked_linear_few_rows(args, kDevice);
}
int hunyuan_quantize_rows(const hunyuan_quantize_rows_args* args, hunyuan_target) {
  return checked_quantize_rows(args, kDevice);
}
int hunyuan_attention(const hunyuan_attention_args* args, hunyuan_target) { return checked_attention(args, kDevice); }
int hunyuan_attention_fp8(const hunyuan_attention_args* args, const hunyuan_norm_rope_args* before, void* workspace,
                          hunyuan_target) {
  return checked_attention_fp8(args, before, workspace, kDevice);
}
int64_t hunyuan_attention_fp8_workspace(const hunyuan_attention_args* args) {
  return checked_attention_fp8_workspace(args);
}
}
