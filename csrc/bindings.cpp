// hunyuan_ext._C: the only file that knows Python. Tensors arrive through torch's DLPack C exchange API (torch >= 2.10:
// no reference counts, about 0.3 us a call, and it knows torch's current CUDA stream); without it, through the
// attributes of the Python object. Functions write into outputs that the caller allocated and return None.
// Callers in hunyuan_ext/*.py check shapes and dtypes first; the checks here protect memory.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>

#include "common/dlpack.h"
#include "hunyuan_ext.h"

namespace py = pybind11;
namespace dlpack = hunyuan::dlpack;

namespace {

#if !defined(HUNYUAN_NVCC)
#define HUNYUAN_NVCC ""
#define HUNYUAN_CUTLASS 0
#endif

// Raised with every change of a signature below; hunyuan_ext/_backend.py refuses a module of another number, such as
// one left in the source tree by an older build.
constexpr int kInterface = 2;
constexpr int kMaxDims = 6;
constexpr int64_t kKeepGilBelow = 8192;  // elements: shorter work than releasing and taking the GIL

const dlpack::ExchangeApi* exchange_api = nullptr;

hunyuan_dtype dtype_of(dlpack::DataType type) {
  if (type.lanes != 1) return HUNYUAN_OTHER;
  if (type.code == dlpack::kFloat && type.bits == 32) return HUNYUAN_F32;
  if (type.code == dlpack::kFloat && type.bits == 16) return HUNYUAN_F16;
  if (type.code == dlpack::kBfloat && type.bits == 16) return HUNYUAN_BF16;
  if (type.code == dlpack::kFloat8_e4m3fn && type.bits == 8) return HUNYUAN_E4M3;
  return HUNYUAN_OTHER;
}

hunyuan_dtype dtype_of(const std::string& name) {
  if (name == "torch.float32") return HUNYUAN_F32;
  if (name == "torch.bfloat16") return HUNYUAN_BF16;
  if (name == "torch.float16") return HUNYUAN_F16;
  if (name == "torch.float8_e4m3fn") return HUNYUAN_E4M3;
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
hunyuan_target target_of(std::initializer_list<const Tensor*> tensors, int threads) {
  const Tensor& first = **tensors.begin();
  for (const Tensor* tensor : tensors)
    if (tensor->device != first.device)
      throw py::value_error(tensor->text() + ": is on another device than " + first.text());
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

void check(int status) {
  if (status == HUNYUAN_OK) return;
  const std::string reason = hunyuan_last_error();
  if (status == HUNYUAN_BAD_ARGUMENT) throw py::value_error(reason);
  if (status == HUNYUAN_BAD_DTYPE) throw py::type_error(reason);
  throw std::runtime_error(reason);
}

// Runs call(args, target) without the GIL when there is real work.
template <class Args>
void run(int (*call)(const Args*, hunyuan_target), const Args& args, hunyuan_target target, int64_t elements) {
  if (elements < kKeepGilBelow) return check(call(&args, target));
  int status;
  {
    py::gil_scoped_release released;
    status = call(&args, target);
  }
  check(status);
}

void layer_norm_modulate(py::handle x_, py::handle shift_, py::handle scale_, py::handle out_, float eps, int threads) {
  const Tensor x(x_, "x"), shift(shift_, "shift"), scale(scale_, "scale"), out(out_, "out");
  x.require(3, 1, x.dtype);
  shift.require(2, 1, x.dtype).require_shape({x.shape[0], x.shape[2]});
  scale.require(2, 1, x.dtype).require_shape({x.shape[0], x.shape[2]});
  out.require(3, 3, x.dtype).require_shape({x.shape[0], x.shape[1], x.shape[2]});
  hunyuan_layer_norm_modulate_args args{};
  args.x = x.data, args.shift = shift.data, args.scale = scale.data, args.out = out.data;
  args.batch = x.shape[0], args.tokens = x.shape[1], args.channels = x.shape[2];
  args.x_batch_stride = x.stride[0], args.x_token_stride = x.stride[1];
  args.shift_batch_stride = shift.stride[0], args.scale_batch_stride = scale.stride[0];
  args.eps = eps, args.dtype = x.dtype;
  run(hunyuan_layer_norm_modulate, args, target_of({&x, &shift, &scale, &out}, threads), x.count());
}

void gate_residual(py::handle x_, py::handle y_, py::handle gate_, py::handle out_, int threads) {
  const Tensor x(x_, "x"), y(y_, "y"), gate(gate_, "gate"), out(out_, "out");
  x.require(3, 1, x.dtype);
  y.require(3, 1, x.dtype).require_shape({x.shape[0], x.shape[1], x.shape[2]});
  gate.require(2, 1, x.dtype).require_shape({x.shape[0], x.shape[2]});
  out.require(3, 3, x.dtype).require_shape({x.shape[0], x.shape[1], x.shape[2]});
  hunyuan_gate_residual_args args{};
  args.x = x.data, args.y = y.data, args.gate = gate.data, args.out = out.data;
  args.batch = x.shape[0], args.tokens = x.shape[1], args.channels = x.shape[2];
  args.x_batch_stride = x.stride[0], args.x_token_stride = x.stride[1];
  args.y_batch_stride = y.stride[0], args.y_token_stride = y.stride[1];
  args.gate_batch_stride = gate.stride[0], args.dtype = x.dtype;
  run(hunyuan_gate_residual, args, target_of({&x, &y, &gate, &out}, threads), x.count());
}

constexpr int kChannelsFirst[] = {4, 3, 2, 1, 0}, kChannelsLast[] = {1, 4, 3, 2, 0};  // innermost first

// Whether a volume [B, C, T, H, W] is stored channels-last; where both hold (C = 1, one position) it is not.
bool channels_last(const Tensor& x) {
  x.require(5, 0, x.dtype);
  if (x.dense_as(kChannelsFirst, 5)) return false;
  if (!x.dense_as(kChannelsLast, 5))
    throw py::value_error(x.text() + ": must be contiguous, as NCDHW or channels_last_3d");
  return true;
}

using Pad = std::array<int64_t, 3>;  // frames in front, rows and columns on both sides

void require_padded(const Tensor& out, const Tensor& x, const Pad& pad, bool last) {
  out.require(5, 0, x.dtype)
      .require_shape({x.shape[0], x.shape[1], x.shape[2] + pad[0], x.shape[3] + 2 * pad[1], x.shape[4] + 2 * pad[2]});
  if (!out.dense_as(last ? kChannelsLast : kChannelsFirst, 5))
    throw py::value_error(out.text() + ": must be contiguous in the memory format of " + x.text());
}

// The address of a float32 or bfloat16 vector of `length` elements, or null for None; all vectors of a call share
// `dtype`.
const void* vector_data(py::handle object, const char* name, int64_t length, hunyuan_dtype& dtype) {
  if (object.is_none()) return nullptr;
  const Tensor vector(object, name);
  if (vector.dtype != HUNYUAN_F32 && vector.dtype != HUNYUAN_BF16)
    throw py::type_error(vector.text() + ": must be float32 or bfloat16");
  if (dtype == HUNYUAN_OTHER) dtype = vector.dtype;
  vector.require(1, 1, dtype).require_shape({length});
  if (vector.device >= 0) throw py::value_error(vector.text() + ": must be on the CPU");
  return vector.data;
}

void pad_causal(py::handle x_, py::handle out_, Pad pad, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  const bool last = channels_last(x);
  require_padded(out, x, pad, last);
  hunyuan_pad_causal_args args{};
  args.x = x.data, args.out = out.data;
  args.planes = last ? x.shape[0] : x.shape[0] * x.shape[1];
  args.cell_bytes = last ? x.shape[1] * x.item_bytes : x.item_bytes;
  args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  run(hunyuan_pad_causal, args, target_of({&x, &out}, threads), x.count());
}

void group_norm_silu(py::handle x_, py::handle weight, py::handle bias, py::handle out_, int64_t groups, float eps,
                     bool silu, Pad pad, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  const bool last = channels_last(x);
  require_padded(out, x, pad, last);
  hunyuan_group_norm_silu_args args{};
  args.affine_dtype = HUNYUAN_OTHER;
  args.weight = vector_data(weight, "weight", x.shape[1], args.affine_dtype);
  args.bias = vector_data(bias, "bias", x.shape[1], args.affine_dtype);
  args.x = x.data, args.out = out.data;
  args.batch = x.shape[0], args.channels = x.shape[1];
  args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  args.groups = groups, args.eps = eps, args.silu = silu, args.channels_last = last, args.dtype = x.dtype;
  run(hunyuan_group_norm_silu, args, target_of({&x, &out}, threads), x.count());
}

// norms: (q_norm, k_norm, text_q_norm, text_k_norm), None where absent; rope: (cos, sin) or None.
void qk_norm_rope(py::handle q_, py::handle k_, py::handle q_out_, py::handle k_out_, py::tuple norms, py::object rope,
                  int64_t text_tokens, float eps, int threads) {
  const Tensor in[2] = {{q_, "q"}, {k_, "k"}}, out[2] = {{q_out_, "q_out"}, {k_out_, "k_out"}};
  hunyuan_qk_norm_rope_args args{};
  const Tensor& q = in[0];
  for (int i = 0; i < 2; ++i) {
    in[i].require(4, 1, q.dtype).require_shape({q.shape[0], q.shape[1], q.shape[2], q.shape[3]});
    out[i].require(4, 4, q.dtype).require_shape({q.shape[0], q.shape[2], q.shape[1], q.shape[3]});
    args.in[i] = in[i].data, args.out[i] = out[i].data;
    args.in_batch_stride[i] = in[i].stride[0], args.in_token_stride[i] = in[i].stride[1];
    args.in_head_stride[i] = in[i].stride[2];
  }
  args.norm_dtype = HUNYUAN_OTHER;
  for (int i = 0; i < 2; ++i) {
    args.norm[i] = vector_data(norms[i], "norm weight", q.shape[3], args.norm_dtype);
    args.text_norm[i] = vector_data(norms[2 + i], "text norm weight", q.shape[3], args.norm_dtype);
  }
  args.batch = q.shape[0], args.tokens = q.shape[1], args.heads = q.shape[2], args.head_dim = q.shape[3];
  args.text_tokens = text_tokens, args.eps = eps, args.dtype = q.dtype;
  if (!rope.is_none()) {
    const py::tuple pair = rope;
    const Tensor cos(pair[0], "cos"), sin(pair[1], "sin");
    for (const Tensor* table : {&cos, &sin})
      table->require(2, 1, HUNYUAN_F32).require_shape({args.tokens - text_tokens, args.head_dim});
    args.cos = static_cast<const float*>(cos.data), args.sin = static_cast<const float*>(sin.data);
    args.cos_stride = cos.stride[0], args.sin_stride = sin.stride[0];
  }
  run(hunyuan_qk_norm_rope, args, target_of({&in[0], &in[1], &out[0], &out[1]}, threads), 2 * q.count());
}

// scale: [] or [rows, 1], or [row blocks, column blocks] with `block` rows and columns each.
void decode_fp8(py::handle weight_, py::handle scale_, py::handle out_, int64_t block, int threads) {
  const Tensor weight(weight_, "weight"), scale(scale_, "scale"), out(out_, "out");
  weight.require(2, 1, HUNYUAN_E4M3);
  const int64_t rows = weight.shape[0], columns = weight.shape[1];
  out.require(2, 2, out.dtype).require_shape({rows, columns});
  hunyuan_decode_fp8_args args{};
  args.weight = static_cast<const uint8_t*>(weight.data), args.scale = static_cast<const float*>(scale.data);
  args.out = out.data, args.rows = rows, args.columns = columns, args.weight_row_stride = weight.stride[0];
  args.out_dtype = out.dtype, args.rows_per_scale = 1, args.columns_per_scale = columns > 0 ? columns : 1;
  if (scale.dims == 0) {
    scale.require(0, 0, HUNYUAN_F32);
  } else if (block == 0) {
    scale.require(2, 1, HUNYUAN_F32).require_shape({rows, 1});
    args.scale_row_stride = scale.stride[0];
  } else {
    scale.require(2, 1, HUNYUAN_F32).require_shape({(rows + block - 1) / block, (columns + block - 1) / block});
    args.scale_row_stride = scale.stride[0], args.rows_per_scale = block, args.columns_per_scale = block;
  }
  run(hunyuan_decode_fp8, args, target_of({&weight, &scale, &out}, threads), weight.count());
}

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
  m.def("pad_causal", &pad_causal, py::arg("x"), py::arg("out"), py::arg("pad"), py::arg("threads"));
  m.def("group_norm_silu", &group_norm_silu, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("out"),
        py::arg("groups"), py::arg("eps"), py::arg("silu"), py::arg("pad"), py::arg("threads"));
  m.def("qk_norm_rope", &qk_norm_rope, py::arg("q"), py::arg("k"), py::arg("q_out"), py::arg("k_out"), py::arg("norms"),
        py::arg("rope"), py::arg("text_tokens"), py::arg("eps"), py::arg("threads"));
  m.def("decode_fp8", &decode_fp8, py::arg("weight"), py::arg("scale"), py::arg("out"), py::arg("block"),
        py::arg("threads"));
}
