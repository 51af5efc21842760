// hunyuan_ext._C: this file and bindings/ are all that knows Python. Functions write into outputs that the caller
// allocated and return None. Callers in hunyuan_ext/*.py check shapes and dtypes first; the checks here protect memory.
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/attention.h"
#include "bindings/attention_cpu.h"
#include "bindings/linear.h"
#include "bindings/matmul.h"
#include "bindings/template.h"
#include "bindings/tensor.h"
#include "bindings/tokens.h"
#include "bindings/training.h"
#include "bindings/volume.h"
#include "bindings/weights.h"
#include "hunyuan_ext.h"

namespace {

using namespace hunyuan::binding;
namespace dlpack = hunyuan::dlpack;

#if !defined(HUNYUAN_NVCC)
#define HUNYUAN_NVCC ""
#define HUNYUAN_CUTLASS 0
#endif

// Raised with every change of a signature below; hunyuan_ext/_backend.py refuses a module of another number, such as
// one left in the source tree by an older build.
constexpr int kInterface = 11;

// Takes torch.Tensor.__dlpack_c_exchange_api__, or None for reading tensors through their attributes.
void use_exchange_api(py::handle capsule) {
  exchange_api = nullptr;
  if (capsule.is_none()) return;
  auto* api = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (!api) throw py::error_already_set();
  if (api->header.major != dlpack::kMajorVersion || !api->tensor_from_py_object || !api->current_work_stream)
    throw py::value_error("torch's DLPack exchange API has version " + std::to_string(api->header.major) +
                          ", version 1 is needed");
  exchange_api = api;
}

// (shape, strides, dtype, device, address) as the kernels see a tensor: the start-up check and the tests.
py::tuple describe(py::handle tensor_) {
  const Tensor tensor(tensor_, "tensor");
  py::tuple shape(tensor.dims), stride(tensor.dims);
  for (int i = 0; i < tensor.dims; ++i) shape[i] = tensor.shape[i], stride[i] = tensor.stride[i];
  return py::make_tuple(shape, stride, static_cast<int>(tensor.dtype), tensor.device,
                        reinterpret_cast<uintptr_t>(tensor.data));
}

py::dict build_facts() {
  py::dict facts;
  facts["version"] = HUNYUAN_VERSION;
  facts["compiler"] = HUNYUAN_COMPILER;
  facts["nvcc"] = HUNYUAN_NVCC;
  facts["cutlass"] = bool(HUNYUAN_CUTLASS);
  facts["cuda_archs"] = hunyuan_built_cuda_archs();
#if defined(HUNYUAN_X86)
  facts["isa"] = py::make_tuple("scalar", "avx2", "avx512");
#else
  facts["isa"] = py::make_tuple("scalar");
#endif
#if defined(_OPENMP)
  facts["openmp"] = true;
#else
  facts["openmp"] = false;
#endif
  return facts;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native kernels of hunyuan_ext; use the functions of hunyuan_ext, not these.";
  m.attr("interface") = kInterface;
  m.def("use_exchange_api", &use_exchange_api, py::arg("capsule"));
  m.def("describe", &describe, py::arg("tensor"));
  m.def("build_facts", &build_facts);
  m.def("isa_supported", [] { return static_cast<int>(hunyuan_isa_supported()); });
  m.def("isa_in_use", [] { return static_cast<int>(hunyuan_isa_in_use()); });
  m.def("set_isa", [](int level) { check(hunyuan_set_isa(static_cast<hunyuan_isa>(level))); }, py::arg("level"));
  m.def("cpu_features", &hunyuan_cpu_features);
  m.def("cuda_device_count", &hunyuan_cuda_device_count);
  m.def("layer_norm_modulate", &layer_norm_modulate, py::arg("x"), py::arg("shift"), py::arg("scale"), py::arg("out"),
        py::arg("eps"), py::arg("threads"));
  m.def("gate_residual", &gate_residual, py::arg("x"), py::arg("y"), py::arg("gate"), py::arg("out"),
        py::arg("threads"));
  m.def("template_scale", &template_scale, py::arg("x"), py::arg("factor"), py::arg("out"), py::arg("threads"));
  m.def("pad_causal", &pad_causal, py::arg("x"), py::arg("out"), py::arg("pad"), py::arg("threads"));
  m.def("group_norm_silu", &group_norm_silu, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("out"),
        py::arg("groups"), py::arg("eps"), py::arg("silu"), py::arg("pad"), py::arg("moments"), py::arg("workspace"),
        py::arg("threads"));
  m.def("group_norm_silu_workspace", &group_norm_silu_workspace, py::arg("x"), py::arg("groups"),
        py::arg("has_moments"));
  m.def("causal_conv3d", &causal_conv3d, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("residual"),
        py::arg("out"), py::arg("moments"), py::arg("groups"), py::arg("stride"));
  m.def("causal_conv3d_moment_chunks", &causal_conv3d_moment_chunks, py::arg("x"), py::arg("weight"),
        py::arg("stride"));
  m.def("quantize_rows", &quantize_rows, py::arg("x"), py::arg("out"), py::arg("scale"));
  m.def("layer_norm_modulate_fp8", &layer_norm_modulate_fp8, py::arg("x"), py::arg("shift"), py::arg("scale"),
        py::arg("out"), py::arg("out_scale"), py::arg("eps"));
  m.def("linear_fp8", &linear_fp8, py::arg("x"), py::arg("x_scale"), py::arg("x_tail"), py::arg("x_tail_scale"),
        py::arg("weight"), py::arg("weight_scale"), py::arg("bias"), py::arg("gate"), py::arg("residual"),
        py::arg("out"), py::arg("out_scale"), py::arg("gelu"));
  m.def("pad_slab", &pad_slab, py::arg("x"), py::arg("out"), py::arg("pad"), py::arg("threads"));
  m.def("norm_slab", &norm_slab, py::arg("x"), py::arg("affine"), py::arg("out"), py::arg("silu"), py::arg("pad"),
        py::arg("threads"));
  m.def("channel_moments", &channel_moments, py::arg("x"), py::arg("totals"), py::arg("seen"), py::arg("threads"));
  m.def("qk_norm_rope", &qk_norm_rope, py::arg("q"), py::arg("k"), py::arg("q_out"), py::arg("k_out"), py::arg("norms"),
        py::arg("rope"), py::arg("text_tokens"), py::arg("eps"), py::arg("threads"));
  m.def("attention", &attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("out"), py::arg("lse"),
        py::arg("kv_len"), py::arg("blocks"), py::arg("scale"));
  m.def("attention_fp8", &attention_fp8, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("out"), py::arg("norms"),
        py::arg("rope"), py::arg("text_tokens"), py::arg("eps"), py::arg("kv_len"), py::arg("blocks"), py::arg("scale"),
        py::arg("workspace"));
  m.def("attention_fp8_workspace", &attention_fp8_workspace, py::arg("batch"), py::arg("queries"), py::arg("keys"),
        py::arg("heads"), py::arg("head_dim"));
  m.def("cpu_is_intel", [] { return hunyuan_cpu_is_intel() != 0; });
  m.def(
      "has_attention_unit",
      [](int unit) { return hunyuan_has_attention_unit(static_cast<hunyuan_attention_unit>(unit)) != 0; },
      py::arg("unit"));
  m.def("rope_attention", &rope_attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("out"), py::arg("norms"),
        py::arg("rope"), py::arg("kv_len"), py::arg("block_list"), py::arg("text_tokens"), py::arg("eps"),
        py::arg("scale"), py::arg("unit"), py::arg("threads"), py::arg("lse") = py::none());
  m.def("rope_attention_backward", &rope_attention_backward, py::arg("forward"), py::arg("grad_out"), py::arg("grads"),
        py::arg("grad_norms"), py::arg("norms"), py::arg("rope"), py::arg("kv_len"), py::arg("text_tokens"),
        py::arg("eps"), py::arg("scale"), py::arg("unit"), py::arg("threads"));
  m.def("layer_norm_modulate_backward", &layer_norm_modulate_backward, py::arg("grad_out"), py::arg("x"),
        py::arg("scale"), py::arg("grad_x"), py::arg("grad_shift"), py::arg("grad_scale"), py::arg("eps"),
        py::arg("threads"));
  m.def("gate_residual_backward", &gate_residual_backward, py::arg("grad_out"), py::arg("y"), py::arg("gate"),
        py::arg("grad_y"), py::arg("grad_gate"), py::arg("threads"));
  m.def("gelu", &gelu, py::arg("x"), py::arg("grad_out"), py::arg("out"), py::arg("threads"));
  m.def("decode_fp8", &decode_fp8, py::arg("weight"), py::arg("scale"), py::arg("out"), py::arg("block"),
        py::arg("threads"));
  m.def("has_linear_unit", &has_linear_unit, py::arg("unit"), py::arg("integer"));
  m.def("linear", &linear, py::arg("inputs"), py::arg("weight"), py::arg("scales"), py::arg("bias"), py::arg("gate"),
        py::arg("residual"), py::arg("out"), py::arg("gelu_from"), py::arg("unit"), py::arg("threads"));
  m.def("quantize_int8", &quantize_int8, py::arg("inputs"), py::arg("out"), py::arg("scale"), py::arg("plus_128"),
        py::arg("threads"));
}
