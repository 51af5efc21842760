// Ops on tokens [B, S, ...]. Included by bindings.cpp alone.
#pragma once

#include "bindings/rope.h"
#include "bindings/tensor.h"

namespace hunyuan::binding {

inline void layer_norm_modulate(py::handle x_, py::handle shift_, py::handle scale_, py::handle out_, float eps,
                                int threads) {
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

inline void gate_residual(py::handle x_, py::handle y_, py::handle gate_, py::handle out_, int threads) {
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

// norms: (q_norm, k_norm, text_q_norm, text_k_norm), None where absent; rope: (cos, sin) or None.
inline void qk_norm_rope(py::handle q_, py::handle k_, py::handle q_out_, py::handle k_out_, py::tuple norms,
                         py::object rope, int64_t text_tokens, float eps, int threads) {
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
    args.norm[i] = vector_data(norms[i], "norm weight", q.shape[3], q, args.norm_dtype);
    args.text_norm[i] = vector_data(norms[2 + i], "text norm weight", q.shape[3], q, args.norm_dtype);
  }
  args.batch = q.shape[0], args.tokens = q.shape[1], args.heads = q.shape[2], args.head_dim = q.shape[3];
  args.text_tokens = text_tokens, args.eps = eps, args.dtype = q.dtype;
  const RopeTables tables(rope, args.tokens - text_tokens, q);
  args.cos = tables.cos, args.sin = tables.sin;
  args.cos_stride = tables.cos_stride, args.sin_stride = tables.sin_stride;
  run(hunyuan_qk_norm_rope, args, target_of({&in[0], &in[1], &out[0], &out[1]}, threads), 2 * q.count());
}

}  // namespace hunyuan::binding
