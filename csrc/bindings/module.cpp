// hunyuan_ext._C: this folder is all that knows Python. Functions write into outputs that the caller allocated and
// return None. Callers in hunyuan_ext check shapes and dtypes first; the checks here protect memory.
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/tensor.h"
#include "hunyuan_ext.h"

namespace hunyuan::binding {

void bind_attention(py::module_& module);
void bind_conv3d(py::module_& module);
void bind_linear(py::module_& module);
void bind_norm(py::module_& module);
void bind_signature(py::module_& module);
void bind_template(py::module_& module);

namespace {

#if !defined(HUNYUAN_NVCC)
#define HUNYUAN_NVCC ""
#endif

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

void bind_machine(py::module_& module) {
  module.def("use_exchange_api", &use_exchange_api, py::arg("capsule"));
  module.def("describe", &describe, py::arg("tensor"));
  module.def("build_facts", &build_facts);
  module.def("isa_supported", [] { return static_cast<int>(hunyuan_isa_supported()); });
  module.def("isa_in_use", [] { return static_cast<int>(hunyuan_isa_in_use()); });
  module.def("set_isa", [](int level) { check(hunyuan_set_isa(static_cast<hunyuan_isa>(level))); }, py::arg("level"));
  module.def("cpu_features", &hunyuan_cpu_features);
  module.def("cpu_is_intel", [] { return hunyuan_cpu_is_intel() != 0; });
  module.def("cuda_device_count", &hunyuan_cuda_device_count);
}

}  // namespace
}  // namespace hunyuan::binding

PYBIND11_MODULE(_C, module) {
  using namespace hunyuan::binding;
  module.doc() = "Native kernels of hunyuan_ext; use the functions of hunyuan_ext, not these.";
  // Fingerprint of the C interface (hunyuan_ext/core/interface.py): a module left in the source tree by an older build
  // is refused instead of failing in the middle.
  module.attr("interface") = HUNYUAN_INTERFACE;
  bind_machine(module);
  bind_attention(module);
  bind_conv3d(module);
  bind_linear(module);
  bind_norm(module);
  bind_signature(module);
  bind_template(module);
}
