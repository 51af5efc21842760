// Compiled instead of the .cu files when there is no CUDA compiler: the same functions, one clear error.
#include "attention/attention.h"
#include "attention/forward.h"
#include "common/status.h"
#include "conv3d/conv3d.h"
#include "gemm_fp8/gemm_fp8.h"
#include "norm/norm.h"
#include "template/template.h"

namespace hunyuan {
namespace {

int no_cuda(const char* op) {
  return fail(HUNYUAN_NO_CUDA,
              "%s: hunyuan_ext was built without CUDA kernels; rebuild it where nvcc is on PATH with HUNYUAN_CUDA=ON",
              op);
}

}  // namespace

int attention_cuda(const hunyuan_attention_args&, hunyuan_target) { return no_cuda("attention"); }
int attention_fp8_cuda(const hunyuan_attention_args&, const hunyuan_norm_rope_args&, void*, hunyuan_target) {
  return no_cuda("attention");
}
int qk_norm_rope_cuda(const hunyuan_qk_norm_rope_args&, hunyuan_target) { return no_cuda("qk_norm_rope"); }
int causal_conv3d_cuda(const hunyuan_causal_conv3d_args&, hunyuan_target) { return no_cuda("causal_conv3d"); }
int64_t causal_conv3d_cuda_moment_chunks(const hunyuan_causal_conv3d_args&, int) { return 0; }
int pad_causal_cuda(const hunyuan_pad_causal_args&, hunyuan_target) { return no_cuda("pad_causal"); }
int linear_fp8_cuda(const hunyuan_linear_fp8_args&, hunyuan_target) { return no_cuda("linear_fp8"); }
int quantize_rows_cuda(const hunyuan_quantize_rows_args&, hunyuan_target) { return no_cuda("quantize_rows"); }
int layer_norm_modulate_cuda(const hunyuan_layer_norm_modulate_args&, hunyuan_target) {
  return no_cuda("layer_norm_modulate");
}
int gate_residual_cuda(const hunyuan_gate_residual_args&, hunyuan_target) { return no_cuda("gate_residual"); }
int group_norm_silu_cuda(const hunyuan_group_norm_silu_args&, hunyuan_target) { return no_cuda("group_norm_silu"); }
int template_scale_cuda(const hunyuan_template_scale_args&, hunyuan_target) { return no_cuda("template_scale"); }
int64_t group_norm_silu_cuda_workspace(const hunyuan_group_norm_silu_args&) { return 0; }

}  // namespace hunyuan

extern "C" {
const char* hunyuan_built_cuda_archs(void) { return ""; }
int hunyuan_cuda_device_count(void) { return 0; }
}
