// Gradients of ops on tokens [B, S, C]. Included by bindings.cpp alone.
#pragma once

#include "bindings/tensor.h"
#include "hunyuan_training.h"

namespace hunyuan::binding {

inline void layer_norm_modulate_backward(py::handle grad_out_, py::handle x_, py::handle scale_, py::handle grad_x_,
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

inline void gate_residual_backward(py::handle grad_out_, py::handle y_, py::handle gate_, py::handle grad_y_,
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

// grad_out: or None, for the forward pass.
inline void gelu(py::handle x_, py::object grad_out_, py::handle out_, int threads) {
  const Tensor x(x_, "x"), out(out_, "out"), grad_out(grad_out_.is_none() ? x_ : grad_out_, "grad_out");
  x.require(2, 1, x.dtype);
  for (const Tensor* other : {&out, &grad_out}) other->require(2, 1, x.dtype).require_shape({x.shape[0], x.shape[1]});
  hunyuan_gelu_args args{};
  args.x = x.data, args.grad_out = grad_out_.is_none() ? nullptr : grad_out.data, args.out = out.data;
  args.rows = x.shape[0], args.columns = x.shape[1], args.dtype = x.dtype;
  args.x_stride = x.stride[0], args.grad_stride = grad_out.stride[0], args.out_stride = out.stride[0];
  run(hunyuan_gelu, args, target_of({&x, &out, &grad_out}, threads), x.count());
}

}  // namespace hunyuan::binding
