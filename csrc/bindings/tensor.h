// How Python tensors become arguments of the C ABI: through torch's DLPack C exchange API (torch >= 2.10: no reference
// counts, about 0.3 us a call, and it knows torch's current CUDA stream), else through the attributes of the object.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>

#include "bindings/dlpack.h"
#include "hunyuan/types.h"

namespace hunyuan::binding {

namespace py = pybind11;

constexpr int kMaxDims = 6;
constexpr int64_t kKeepGilBelow = 8192;  // elements: shorter work than releasing and taking the GIL

inline const dlpack::ExchangeApi* exchange_api = nullptr;

inline hunyuan_dtype dtype_of(dlpack::DataType type) {
  if (type.lanes != 1) return HUNYUAN_OTHER;
  if (type.code == dlpack::kFloat && type.bits == 32) return HUNYUAN_F32;
  if (type.code == dlpack::kFloat && type.bits == 16) return HUNYUAN_F16;
  if (type.code == dlpack::kBfloat && type.bits == 16) return HUNYUAN_BF16;
  if (type.code == dlpack::kFloat8_e4m3fn && type.bits == 8) return HUNYUAN_E4M3;
  if (type.code == dlpack::kInt && type.bits == 32) return HUNYUAN_I32;
  if (type.code == dlpack::kInt && type.bits == 8) return HUNYUAN_I8;
  return HUNYUAN_OTHER;
}

inline hunyuan_dtype dtype_of(const std::string& name) {
  if (name == "torch.float32") return HUNYUAN_F32;
  if (name == "torch.bfloat16") return HUNYUAN_BF16;
  if (name == "torch.float16") return HUNYUAN_F16;
  if (name == "torch.float8_e4m3fn") return HUNYUAN_E4M3;
  if (name == "torch.int32") return HUNYUAN_I32;
  if (name == "torch.int8") return HUNYUAN_I8;
  return HUNYUAN_OTHER;
}

// A tensor argument: what the kernels need to know of it. Valid while the Python object lives.
struct Tensor {
  const char* name;
  py::handle object;
  void* data = nullptr;
  int device = -1;  // -1: CPU
  int dims = 0;
  int64_t item_bytes = 0;
  hunyuan_dtype dtype = HUNYUAN_OTHER;
  std::array<int64_t, kMaxDims> shape{};
  std::array<int64_t, kMaxDims> stride{};

  Tensor(py::handle source, const char* argument) : name(argument), object(source) {
    exchange_api ? read_dlpack() : read_attributes();
    if (!data && count()) throw py::type_error(text() + ": has no storage (a meta or fake tensor)");
  }

  std::string text() const { return name; }

  int64_t count() const {
    int64_t product = 1;
    for (int i = 0; i < dims; ++i) product *= shape[i];
    return product;
  }

  // Stored without gaps in `inner` dimensions, which `order` lists innermost first.
  bool dense_as(const int* order, int inner) const {
    if (count() == 0) return true;
    int64_t expected = 1;
    for (int i = 0; i < inner; ++i) {
      if (shape[order[i]] != 1 && stride[order[i]] != expected) return false;
      expected *= shape[order[i]];
    }
    return true;
  }

  // Contiguous in the last `inner` dimensions.
  bool dense(int inner) const {
    int order[kMaxDims];
    for (int i = 0; i < dims; ++i) order[i] = dims - 1 - i;
    return dense_as(order, inner);
  }

  const Tensor& require(int dimensions, int inner, hunyuan_dtype type) const {
    if (dims != dimensions)
      throw py::value_error(text() + ": has " + std::to_string(dims) + " dimensions, " + std::to_string(dimensions) +
                            " are needed");
    if (dtype != type) throw py::type_error(text() + ": has another dtype than the kernel was asked for");
    if (!dense(inner))
      throw py::value_error(text() + ": its last " + std::to_string(inner) + " dimensions must be contiguous");
    return *this;
  }

  const Tensor& require_shape(std::initializer_list<int64_t> wanted) const {
    int i = 0;
    bool same = dims == static_cast<int>(wanted.size());
    for (int64_t size : wanted) same = same && shape[i++] == size;
    if (!same) throw py::value_error(text() + ": its shape does not fit the other arguments");
    return *this;
  }

  // [S, C] as [1, S, C].
  Tensor& as_tokens() {
    if (dims != 2) return *this;
    shape = {1, shape[0], shape[1]}, stride = {shape[1] * stride[0], stride[0], stride[1]};
    dims = 3;
    return *this;
  }

  // [..., C] as [rows, C], where all rows are evenly apart; else as it is.
  Tensor& as_rows() {
    if (dims < 3 || !dense(1)) return *this;
    const int64_t columns = shape[dims - 1];
    int64_t rows = 1, apart = columns;
    for (int i = dims - 2; i >= 0 && count() > 0; --i) {
      if (shape[i] == 1) continue;
      if (rows == 1) apart = stride[i];
      if (stride[i] != rows * apart) return *this;
      rows *= shape[i];
    }
    shape = {count() > 0 ? rows : 0, columns}, stride = {apart, 1};
    dims = 2;
    return *this;
  }

  const Tensor& require_beside(const Tensor& other) const {
    if (device != other.device) throw py::value_error(text() + ": is on another device than " + other.text());
    return *this;
  }

 private:
  void read_dlpack() {
    dlpack::Tensor view;
    if (exchange_api->tensor_from_py_object(object.ptr(), &view) != 0) {
      PyErr_Clear();
      throw py::type_error(text() + ": a dense torch.Tensor is needed, got " +
                           std::string(py::str(py::type::of(object))));
    }
    set_dims(view.ndim);
    data = static_cast<char*>(view.data) + view.byte_offset;
    device = view.device.type == dlpack::kCuda ? view.device.id : -1;
    if (view.device.type != dlpack::kCpu && view.device.type != dlpack::kCuda && view.device.type != dlpack::kCudaHost)
      throw py::type_error(text() + ": must be on the CPU or a CUDA device");
    dtype = dtype_of(view.dtype);
    item_bytes = view.dtype.bits * view.dtype.lanes / 8;
    for (int i = 0; i < dims; ++i) {
      shape[i] = view.shape[i];
      stride[i] = view.strides[i];
    }
  }

  void read_attributes() {
    if (!py::hasattr(object, "data_ptr"))
      throw py::type_error(text() + ": a torch.Tensor is needed, got " + std::string(py::str(py::type::of(object))));
    const auto sizes = py::tuple(object.attr("shape")), strides = py::tuple(object.attr("stride")());
    set_dims(static_cast<int>(sizes.size()));
    data = reinterpret_cast<void*>(object.attr("data_ptr")().cast<uintptr_t>());
    const auto where = object.attr("device");
    const auto kind = where.attr("type").cast<std::string>();
    if (kind != "cpu" && kind != "cuda") throw py::type_error(text() + ": must be on the CPU or a CUDA device");
    device = kind == "cuda" ? where.attr("index").cast<int>() : -1;
    dtype = dtype_of(std::string(py::str(object.attr("dtype"))));
    item_bytes = object.attr("element_size")().cast<int64_t>();
    for (int i = 0; i < dims; ++i) {
      shape[i] = sizes[i].cast<int64_t>();
      stride[i] = strides[i].cast<int64_t>();
    }
  }

  void set_dims(int count) {
    if (count > kMaxDims) throw py::value_error(text() + ": has more than 6 dimensions");
    dims = count;
  }
};

// Where the call runs: the device all tensors share, and torch's current stream there.
inline hunyuan_target target_of(std::initializer_list<const Tensor*> tensors, int threads) {
  const Tensor& first = **tensors.begin();
  for (const Tensor* tensor : tensors) tensor->require_beside(first);
  hunyuan_target target{first.device, nullptr, threads};
  if (first.device < 0) return target;
  if (exchange_api) {
    if (exchange_api->current_work_stream(dlpack::kCuda, first.device, &target.stream) != 0)
      throw py::error_already_set();
  } else {
    const auto stream = py::module_::import("torch").attr("cuda").attr("current_stream")(first.device);
    target.stream = reinterpret_cast<void*>(stream.attr("cuda_stream").cast<uintptr_t>());
  }
  return target;
}

inline void check(int status) {
  if (status == HUNYUAN_OK) return;
  const std::string reason = hunyuan_last_error();
  if (status == HUNYUAN_BAD_ARGUMENT) throw py::value_error(reason);
  if (status == HUNYUAN_BAD_DTYPE) throw py::type_error(reason);
  throw std::runtime_error(reason);
}

// Runs call(args, target) without the GIL when there is real work.
template <class Args>
inline void run(int (*call)(const Args*, hunyuan_target), const Args& args, hunyuan_target target, int64_t elements) {
  if (elements < kKeepGilBelow) return check(call(&args, target));
  int status;
  {
    py::gil_scoped_release released;
    status = call(&args, target);
  }
  check(status);
}

// The address of a vector of `length` elements on the device of `x`, or null for None; all vectors of a call share
// `dtype`: float32, bfloat16 or, on CUDA, float16.
inline const void* vector_data(py::handle object, const char* name, int64_t length, const Tensor& x,
                               hunyuan_dtype& dtype) {
  if (object.is_none()) return nullptr;
  const Tensor vector(object, name);
  if (vector.dtype != HUNYUAN_F32 && vector.dtype != HUNYUAN_BF16 && (vector.dtype != HUNYUAN_F16 || x.device < 0))
    throw py::type_error(vector.text() + ": must be float32 or bfloat16, or float16 on CUDA");
  if (dtype == HUNYUAN_OTHER) dtype = vector.dtype;
  vector.require(1, 1, dtype).require_shape({length}).require_beside(x);
  return vector.data;
}

}  // namespace hunyuan::binding
