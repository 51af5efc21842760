// What of a call's tensors decides how it runs, as bytes to compare: the key under which Python remembers plans.
#include "bindings/tensor.h"

namespace hunyuan::binding {
namespace {

PyTypeObject* tensor_type = nullptr;
PyTypeObject* parameter_type = nullptr;

// torch.Tensor and torch.nn.Parameter: the types whose calls may be remembered.
void use_tensor_types(py::type tensor, py::type parameter) {
  tensor_type = reinterpret_cast<PyTypeObject*>(tensor.inc_ref().ptr());
  parameter_type = reinterpret_cast<PyTypeObject*>(parameter.inc_ref().ptr());
}

// Bytes on the stack, numbers in groups of seven bits.
class SignatureBytes {
 public:
  bool full() const { return size_ + kLongest > sizeof bytes_; }
  void byte(int value) { bytes_[size_++] = static_cast<char>(value); }
  void number(int64_t value) {
    uint64_t rest = static_cast<uint64_t>(value);
    for (; rest >= 128; rest >>= 7) byte(static_cast<int>(rest & 127) | 128);
    byte(static_cast<int>(rest));
  }
  py::bytes get() const { return py::bytes(bytes_, size_); }

 private:
  static constexpr size_t kLongest = 16 + 2 * kMaxDims * 10;  // of one tensor
  char bytes_[4096];
  size_t size_ = 0;
};

// One byte of whether a gradient is wanted and of the alignment; then dtype, device, shape and strides. False for what
// is no ordinary dense tensor with storage.
bool append_signature(SignatureBytes& out, PyObject* object, bool grad) {
  if (Py_TYPE(object) != tensor_type && Py_TYPE(object) != parameter_type) return false;
  dlpack::Tensor view;
  if (exchange_api->tensor_from_py_object(object, &view) != 0) {
    PyErr_Clear();
    return false;
  }
  if (view.ndim > kMaxDims || out.full()) return false;
  int wants_gradient = 0;
  if (grad) {
    static PyObject* const name = PyUnicode_InternFromString("requires_grad");
    const auto value = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, name));
    if (!value) throw py::error_already_set();
    wants_gradient = value.ptr() == Py_True;
  }
  const bool misaligned = (reinterpret_cast<uintptr_t>(view.data) + view.byte_offset) % 16 != 0;
  out.byte(1 + wants_gradient + 2 * misaligned);
  out.byte(view.ndim), out.byte(view.dtype.code), out.byte(view.dtype.bits), out.byte(view.dtype.lanes);
  out.byte(view.device.type), out.number(view.device.id);
  for (int i = 0; i < view.ndim; ++i) out.number(view.shape[i]), out.number(view.strides[i]);
  return true;
}

// Equal bytes for tensors (None among them) that a kernel cannot tell apart but by their values; None where one is a
// subclass, sparse, fake or on a device without kernels. `grad`: gradients are recorded, so who wants one counts.
py::object signature(py::tuple tensors, bool grad) {
  if (!exchange_api || !tensor_type) return py::none();
  SignatureBytes out;
  out.byte(grad);
  for (const py::handle tensor : tensors) {
    if (tensor.is_none()) {
      out.byte(0);
    } else if (!append_signature(out, tensor.ptr(), grad)) {
      return py::none();
    }
  }
  return out.get();
}

}  // namespace

void bind_signature(py::module_& module) {
  module.def("use_tensor_types", &use_tensor_types, py::arg("tensor"), py::arg("parameter"));
  module.def("signature", &signature, py::arg("tensors"), py::arg("grad"));
}

}  // namespace hunyuan::binding
