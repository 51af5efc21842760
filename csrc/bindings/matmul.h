// Matrix products on tensor cores and what feeds them; CUDA only. Included by bindings.cpp alone.
#pragma once

#include "bindings/tensor.h"
#include "bindings/volume.h"

namespace hunyuan::binding {

using Triple = std::array<int64_t, 3>;  // frames, rows, columns

inline int64_t blocks_of(int64_t size) { return (size + 127) / 128; }

inline const Tensor& require_last(const Tensor& x, hunyuan_dtype dtype) {
  x.require(5, 0, dtype);
  if (!x.dense_as(kChannelsLast, 5)) throw py::value_error(x.text() + ": must be contiguous in channels_last_3d");
  return x;
}

// The convolution of x, padded already; all volumes and the weight channels-last. moments: float32
// [B, causal_conv3d_moment_chunks, groups, 3] or None.
inline hunyuan_causal_conv3d_args conv_args(const Tensor& x, const Tensor& weight, const Triple& stride) {
  hunyuan_causal_conv3d_args args{};
  args.x = x.data, args.weight = weight.data, args.batch = x.shape[0], args.channels = x.shape[1];
  args.out_channels = weight.shape[0], args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  for (int i = 0; i < 3; ++i) args.kernel[i] = weight.shape[2 + i], args.stride[i] = stride[i];
  args.dtype = x.dtype;
  return args;
}

inline void causal_conv3d(py::handle x_, py::handle weight_, py::handle bias, py::handle residual_, py::handle out_,
                          py::handle moments_, int64_t groups, Triple stride) {
  const Tensor x(x_, "x"), weight(weight_, "weight"), out(out_, "out");
  require_last(x, x.dtype);
  require_last(weight, x.dtype)
      .require_shape({weight.shape[0], x.shape[1], weight.shape[2], weight.shape[3], weight.shape[4]});
  hunyuan_causal_conv3d_args args = conv_args(x, weight, stride);
  int64_t volume[3];
  for (int i = 0; i < 3; ++i) {
    if (stride[i] <= 0 || x.shape[2 + i] < weight.shape[2 + i])
      throw py::value_error("x: is smaller than the kernel, or stride is not positive");
    volume[i] = (x.shape[2 + i] - weight.shape[2 + i]) / stride[i] + 1;
  }
  require_last(out, x.dtype).require_shape({x.shape[0], weight.shape[0], volume[0], volume[1], volume[2]});
  args.out = out.data;
  args.bias_dtype = HUNYUAN_OTHER;
  args.bias = vector_data(bias, "bias", weight.shape[0], x, args.bias_dtype);
  if (!residual_.is_none()) {
    const Tensor residual(residual_, "residual");
    require_last(residual, x.dtype)
        .require_shape({out.shape[0], out.shape[1], out.shape[2], out.shape[3], out.shape[4]})
        .require_beside(x);
    args.residual = residual.data;
  }
  const hunyuan_target target = target_of({&x, &weight, &out}, 1);
  if (!moments_.is_none()) {
    const Tensor moments(moments_, "moments");
    const int64_t chunks = hunyuan_causal_conv3d_moment_chunks(&args, target);
    moments.require(4, 4, HUNYUAN_F32).require_shape({x.shape[0], chunks, groups, 3}).require_beside(x);
    args.moments = static_cast<float*>(moments.data), args.groups = groups;
  }
  run(hunyuan_causal_conv3d, args, target, out.count());
}

inline int64_t causal_conv3d_moment_chunks(py::handle x_, py::handle weight_, Triple stride) {
  const Tensor x(x_, "x"), weight(weight_, "weight");
  x.require(5, 0, x.dtype);
  weight.require(5, 0, x.dtype);
  const hunyuan_causal_conv3d_args args = conv_args(x, weight, stride);
  return hunyuan_causal_conv3d_moment_chunks(&args, target_of({&x, &weight}, 1));
}

// Scales of E4M3 rows: [rows], or [blocks of 128 columns, rows]. Returns the columns that share one: 0 (all) or 128.
inline int64_t scale_block(const Tensor& scale, int64_t rows, int64_t columns) {
  if (scale.dims == 1) return scale.require(1, 1, HUNYUAN_F32).require_shape({rows}), 0;
  scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(columns), rows});
  return 128;
}

inline void quantize_rows(py::handle x_, py::handle out_, py::handle scale_) {
  const Tensor x(x_, "x"), out(out_, "out"), scale(scale_, "scale");
  x.require(2, 1, x.dtype);
  out.require(2, 2, HUNYUAN_E4M3).require_shape({x.shape[0], x.shape[1]});
  hunyuan_quantize_rows_args args{};
  args.x = x.data, args.out = out.data, args.scale = static_cast<float*>(scale.data);
  args.rows = x.shape[0], args.columns = x.shape[1], args.x_row_stride = x.stride[0], args.dtype = x.dtype;
  args.block = scale_block(scale, x.shape[0], x.shape[1]);
  run(hunyuan_quantize_rows, args, target_of({&x, &out, &scale}, 1), x.count());
}

inline void layer_norm_modulate_fp8(py::handle x_, py::handle shift_, py::handle scale_, py::handle out_,
                                    py::handle out_scale_, float eps) {
  const Tensor x(x_, "x"), shift(shift_, "shift"), scale(scale_, "scale"), out(out_, "out");
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

// x [M, K] and weight [N, K] in E4M3, x perhaps in two parts, which are K together; out [M, N] in bfloat16, or in E4M3
// with out_scale. bias, gate, residual: bfloat16.
inline void linear_fp8(py::handle x_, py::handle x_scale_, py::handle x_tail_, py::handle x_tail_scale_,
                       py::handle weight_, py::handle weight_scale_, py::handle bias_, py::handle gate_,
                       py::handle residual_, py::handle out_, py::handle out_scale_, bool gelu) {
  const Tensor x(x_, "x"), x_scale(x_scale_, "x_scale"), weight(weight_, "weight");
  const Tensor weight_scale(weight_scale_, "weight_scale"), out(out_, "out");
  const int64_t rows = x.shape[0], columns = weight.shape[0];
  x.require(2, 2, HUNYUAN_E4M3);
  hunyuan_linear_fp8_args args{};
  int64_t inner = x.shape[1];
  if (!x_tail_.is_none()) {
    const Tensor tail(x_tail_, "x_tail"), tail_scale(x_tail_scale_, "x_tail_scale");
    tail.require(2, 2, HUNYUAN_E4M3).require_shape({rows, tail.shape[1]}).require_beside(x);
    tail_scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(tail.shape[1]), rows}).require_beside(x);
    args.x_tail = tail.data, args.x_tail_scale = static_cast<const float*>(tail_scale.data);
    args.head_columns = inner, inner += tail.shape[1];
  }
  weight.require(2, 2, HUNYUAN_E4M3).require_shape({columns, inner});
  args.x = x.data, args.weight = weight.data, args.out = out.data, args.gelu = gelu;
  args.rows = rows, args.in_columns = inner, args.out_columns = columns;
  args.x_scale = static_cast<const float*>(x_scale.data), args.x_block = scale_block(x_scale, rows, x.shape[1]);
  args.weight_scale = static_cast<const float*>(weight_scale.data);
  if (weight_scale.dims == 0) {
    weight_scale.require(0, 0, HUNYUAN_F32);
  } else if (weight_scale.dims == 2 && weight_scale.shape[1] == 1 && weight_scale.shape[0] == columns) {
    weight_scale.require(2, 2, HUNYUAN_F32), args.weight_scales = 1;
  } else {
    weight_scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(columns), blocks_of(inner)});
    args.weight_scales = 128;
  }
  if (!bias_.is_none())
    args.bias = Tensor(bias_, "bias").require(1, 1, HUNYUAN_BF16).require_shape({columns}).require_beside(x).data;
  if (!gate_.is_none()) {
    const Tensor gate(gate_, "gate");
    gate.require(2, 1, HUNYUAN_BF16).require_beside(x);
    if (gate.shape[1] != columns || gate.shape[0] <= 0 || rows % gate.shape[0] != 0)
      throw py::value_error("gate: its shape does not fit the other arguments");
    args.gate = gate.data, args.gate_stride = gate.stride[0], args.tokens = rows / gate.shape[0];
  }
  if (!residual_.is_none())
    args.residual =
        Tensor(residual_, "residual").require(2, 2, HUNYUAN_BF16).require_shape({rows, columns}).require_beside(x).data;
  if (out_scale_.is_none()) {
    out.require(2, 2, HUNYUAN_BF16).require_shape({rows, columns});
  } else {
    const Tensor out_scale(out_scale_, "out_scale");
    out.require(2, 2, HUNYUAN_E4M3).require_shape({rows, columns});
    out_scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(columns), rows}).require_beside(x);
    args.out_scale = static_cast<float*>(out_scale.data);
  }
  run(hunyuan_linear_fp8, args, target_of({&x, &x_scale, &weight, &weight_scale, &out}, 1), out.count());
}

}  // namespace hunyuan::binding
