// Norms, modulation and their gradients.
#include "hunyuan/norm.h"

#include "bindings/volume.h"

namespace hunyuan::binding {
namespace {

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

void layer_norm_modulate_fp8(py::handle x_, py::handle shift_, py::handle scale_, py::handle out_,
                             py::handle out_scale_, float eps) {
  const Tensor x(x_, "x"), shift(shift_, "shift"), scale(scale_, "scale"), out = Tensor(out_, "out").as_rows();
  const Tensor out_scale(out_scale_, "out_scale");
  x.require(3, 1, x.dtype);
  shift.require(2, 1, x.dtype).require_shape({x.shape[0], x.shape[2]});
  scale.require(2, 1, x.dtype).require_shape({x.shape[0], x.shape[2]});
  out.require(2, 2, HUNYUAN_E4M3).require_shape({x.shape[0] * x.shape[1], x.shape[2]});
  out_scale.require(1, 1, HUNYUAN_F32).require_shape({x.shape[0] * x.shape[1]});
  hunyuan_layer_norm_modulate_args args{};
  args.x = x.data, args.shift = shift.data, args.scale = scale.data, args.out = out.data;
  args.batch = x.shape[0], args.tokens = x.shape[1], args.channels = x.shape[2];
  args.x_batch_stride = x.stride[0], args.x_token_stride = x.stride[1];
  args.shift_batch_stride = shift.stride[0], args.scale_batch_stride = scale.stride[0];
  args.eps = eps, args.dtype = x.dtype, args.out_scale = static_cast<float*>(out_scale.data);
  run(hunyuan_layer_norm_modulate, args, target_of({&x, &shift, &scale, &out, &out_scale}, 1), x.count());
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

hunyuan_group_norm_silu_args group_norm_args(const Tensor& x, int64_t groups) {
  hunyuan_group_norm_silu_args args{};
  args.x = x.data, args.batch = x.shape[0], args.channels = x.shape[1];
  args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  args.groups = groups, args.dtype = x.dtype;
  return args;
}

// Bytes of workspace that group_norm_silu needs for x; 0 on the CPU.
int64_t group_norm_silu_workspace(py::handle x_, int64_t groups, bool has_moments) {
  const Tensor x(x_, "x");
  x.require(5, 0, x.dtype);
  hunyuan_group_norm_silu_args args = group_norm_args(x, groups);
  static const float anything = 0.0f;
  args.moments = has_moments ? &anything : nullptr;
  return hunyuan_group_norm_silu_workspace(&args, {x.device, nullptr, 1});
}

// moments: [B, chunks, groups, 3] float32 or None; workspace: uint8 or None on the CPU.
void group_norm_silu(py::handle x_, py::handle weight, py::handle bias, py::handle out_, int64_t groups, float eps,
                     bool silu, Pad pad, py::handle moments_, py::handle workspace_, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  const bool last = channels_last(x);
  require_padded(out, x, pad, last);
  hunyuan_group_norm_silu_args args = group_norm_args(x, groups);
  args.affine_dtype = HUNYUAN_OTHER;
  args.weight = vector_data(weight, "weight", x.shape[1], x, args.affine_dtype);
  args.bias = vector_data(bias, "bias", x.shape[1], x, args.affine_dtype);
  args.out = out.data;
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  args.eps = eps, args.silu = silu, args.channels_last = last;
  if (!moments_.is_none()) {
    const Tensor moments(moments_, "moments");
    moments.require(4, 4, HUNYUAN_F32).require_shape({x.shape[0], moments.shape[1], groups, 3}).require_beside(x);
    args.moments = static_cast<const float*>(moments.data), args.moment_chunks = moments.shape[1];
  }
  if (!workspace_.is_none()) {
    const Tensor workspace(workspace_, "workspace");
    const int64_t needed = hunyuan_group_norm_silu_workspace(&args, {x.device, nullptr, 1});
    workspace.require_beside(x);
    if (workspace.dims != 1 || !workspace.dense(1) || workspace.count() * workspace.item_bytes < needed)
      throw py::value_error("workspace: is smaller than group_norm_silu_workspace says");
    args.workspace = workspace.data;
  }
  run(hunyuan_group_norm_silu, args, target_of({&x, &out}, threads), x.count());
}

void norm_slab(py::handle x_, py::handle affine_, py::handle out_, bool silu, Pad pad, int threads) {
  const Tensor x(x_, "x"), affine(affine_, "affine"), out(out_, "out");
  require_slab(out, x, pad);
  affine.require(2, 2, HUNYUAN_F32).require_shape({3, x.shape[3]});
  hunyuan_group_norm_silu_args args{};
  args.x = x.data, args.out = out.data, args.affine = static_cast<const float*>(affine.data);
  args.batch = 1, args.groups = 1, args.channels = x.shape[3];
  args.frames = x.shape[0], args.rows = x.shape[1], args.columns = x.shape[2];
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  args.silu = silu, args.channels_last = 1, args.dtype = x.dtype;
  run(hunyuan_group_norm_silu, args, target_of({&x, &affine, &out}, threads), x.count());
}

// totals: [3, C] float64, contiguous.
void channel_moments(py::handle x_, py::handle totals_, int64_t seen, int threads) {
  const Tensor x(x_, "x"), totals(totals_, "totals");
  x.require(4, 4, x.dtype);
  totals.require(2, 2, HUNYUAN_OTHER).require_shape({3, x.shape[3]});
  if (totals.item_bytes != 8) throw py::type_error("totals: must be float64");
  hunyuan_channel_moments_args args{};
  args.x = x.data, args.totals = static_cast<double*>(totals.data);
  args.positions = x.shape[0] * x.shape[1] * x.shape[2], args.channels = x.shape[3];
  args.seen = seen, args.dtype = x.dtype;
  run(hunyuan_channel_moments, args, target_of({&x, &totals}, threads), x.count());
}

// ---- Gradients ----

void layer_norm_modulate_backward(py::handle grad_out_, py::handle x_, py::handle scale_, py::handle grad_x_,
                                  py::handle grad_shift_, py::handle grad_scale_, float eps, int threads) {
  const Tensor grad_out(grad_out_, "grad_out"), x(x_, "x"), scale(scale_, "scale"), grad_x(grad_x_, "grad_x"),
      grad_shift(grad_shift_, "grad_shift"), grad_scale(grad_scale_, "grad_scale");
  const int64_t batch = x.shape[0], tokens = x.shape[1], channels = x.shape[2];
  x.require(3, 1, x.dtype);
  grad_out.require(3, 1, x.dtype).require_shape({batch, tokens, channels});
  grad_x.require(3, 3, x.dtype).require_shape({batch, tokens, channels});
  scale.require(2, 1, x.dtype).require_shape({batch, channels});
  for (const Tensor* vector : {&grad_shift, &grad_scale})
    vector->require(2, 2, x.dtype).require_shape({batch, channels});
  hunyuan_layer_norm_modulate_backward_args args{};
  args.grad_out = grad_out.data, args.x = x.data, args.scale = scale.data;
  args.grad_x = grad_x.data, args.grad_shift = grad_shift.data, args.grad_scale = grad_scale.data;
  args.batch = batch, args.tokens = tokens, args.channels = channels;
  for (int i = 0; i < 2; ++i) args.grad_stride[i] = grad_out.stride[i], args.x_stride[i] = x.stride[i];
  args.scale_batch_stride = scale.stride[0], args.eps = eps, args.dtype = x.dtype;
  run(hunyuan_layer_norm_modulate_backward, args,
      target_of({&grad_out, &x, &scale, &grad_x, &grad_shift, &grad_scale}, threads), x.count());
}

void gate_residual_backward(py::handle grad_out_, py::handle y_, py::handle gate_, py::handle grad_y_,
                            py::handle grad_gate_, int threads) {
  const Tensor grad_out(grad_out_, "grad_out"), y(y_, "y"), gate(gate_, "gate"), grad_y(grad_y_, "grad_y"),
      grad_gate(grad_gate_, "grad_gate");
  const int64_t batch = y.shape[0], tokens = y.shape[1], channels = y.shape[2];
  y.require(3, 1, y.dtype);
  grad_out.require(3, 1, y.dtype).require_shape({batch, tokens, channels});
  grad_y.require(3, 3, y.dtype).require_shape({batch, tokens, channels});
  gate.require(2, 1, y.dtype).require_shape({batch, channels});
  grad_gate.require(2, 2, y.dtype).require_shape({batch, channels});
  hunyuan_gate_residual_backward_args args{};
  args.grad_out = grad_out.data, args.y = y.data, args.gate = gate.data;
  args.grad_y = grad_y.data, args.grad_gate = grad_gate.data;
  args.batch = batch, args.tokens = tokens, args.channels = channels;
  for (int i = 0; i < 2; ++i) args.grad_stride[i] = grad_out.stride[i], args.y_stride[i] = y.stride[i];
  args.gate_batch_stride = gate.stride[0], args.dtype = y.dtype;
  run(hunyuan_gate_residual_backward, args, target_of({&grad_out, &y, &gate, &grad_y, &grad_gate}, threads), y.count());
}

// Of [..., C] whose rows are evenly apart. grad_out: or None, for the forward pass.
void gelu(py::handle x_, py::object grad_out_, py::handle out_, int threads) {
  const Tensor x = Tensor(x_, "x").as_rows(), out = Tensor(out_, "out").as_rows();
  const Tensor grad_out = Tensor(grad_out_.is_none() ? x_ : grad_out_, "grad_out").as_rows();
  x.require(2, 1, x.dtype);
  for (const Tensor* other : {&out, &grad_out}) other->require(2, 1, x.dtype).require_shape({x.shape[0], x.shape[1]});
  hunyuan_gelu_args args{};
  args.x = x.data, args.grad_out = grad_out_.is_none() ? nullptr : grad_out.data, args.out = out.data;
  args.rows = x.shape[0], args.columns = x.shape[1], args.dtype = x.dtype;
  args.x_stride = x.stride[0], args.grad_stride = grad_out.stride[0], args.out_stride = out.stride[0];
  run(hunyuan_gelu, args, target_of({&x, &out, &grad_out}, threads), x.count());
}

}  // namespace

void bind_norm(py::module_& module) {
  module.def("layer_norm_modulate", &layer_norm_modulate, py::arg("x"), py::arg("shift"), py::arg("scale"),
             py::arg("out"), py::arg("eps"), py::arg("threads"));
  module.def("layer_norm_modulate_fp8", &layer_norm_modulate_fp8, py::arg("x"), py::arg("shift"), py::arg("scale"),
             py::arg("out"), py::arg("out_scale"), py::arg("eps"));
  module.def("gate_residual", &gate_residual, py::arg("x"), py::arg("y"), py::arg("gate"), py::arg("out"),
             py::arg("threads"));
  module.def("group_norm_silu", &group_norm_silu, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("out"),
             py::arg("groups"), py::arg("eps"), py::arg("silu"), py::arg("pad"), py::arg("moments"),
             py::arg("workspace"), py::arg("threads"));
  module.def("group_norm_silu_workspace", &group_norm_silu_workspace, py::arg("x"), py::arg("groups"),
             py::arg("has_moments"));
  module.def("norm_slab", &norm_slab, py::arg("x"), py::arg("affine"), py::arg("out"), py::arg("silu"), py::arg("pad"),
             py::arg("threads"));
  module.def("channel_moments", &channel_moments, py::arg("x"), py::arg("totals"), py::arg("seen"), py::arg("threads"));
  module.def("layer_norm_modulate_backward", &layer_norm_modulate_backward, py::arg("grad_out"), py::arg("x"),
             py::arg("scale"), py::arg("grad_x"), py::arg("grad_shift"), py::arg("grad_scale"), py::arg("eps"),
             py::arg("threads"));
  module.def("gate_residual_backward", &gate_residual_backward, py::arg("grad_out"), py::arg("y"), py::arg("gate"),
             py::arg("grad_y"), py::arg("grad_gate"), py::arg("threads"));
  module.def("gelu", &gelu, py::arg("x"), py::arg("grad_out"), py::arg("out"), py::arg("threads"));
}

}  // namespace hunyuan::binding
