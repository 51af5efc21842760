// The CPU linear layer and its int8 inputs. Included by bindings.cpp alone.
#pragma once

#include <vector>

#include "bindings/tensor.h"
#include "bindings/weights.h"

namespace hunyuan::binding {

inline bool has_linear_unit(int unit, bool integer) {
  return hunyuan_has_linear_unit(static_cast<hunyuan_linear_unit>(unit), integer ? HUNYUAN_I8 : HUNYUAN_BF16);
}

// One or two inputs [B, S, K] or [S, K] side by side, into the fields that both argument structures share.
template <class Args>
inline hunyuan_dtype set_inputs(const py::tuple& inputs, Args& args, std::vector<Tensor>& tensors) {
  if (inputs.size() < 1 || inputs.size() > 2) throw py::value_error("inputs: one or two tensors are needed");
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& x = tensors.emplace_back(inputs[i], "x").as_tokens();
    x.require(3, 1, tensors[0].dtype).require_shape({tensors[0].shape[0], tensors[0].shape[1], x.shape[2]});
    args.x[i] = x.data, args.in_columns[i] = x.shape[2];
    args.x_stride[i][0] = x.stride[0], args.x_stride[i][1] = x.stride[1];
  }
  args.batch = tensors[0].shape[0], args.tokens = tensors[0].shape[1];
  return tensors[0].dtype;
}

// scales: (of the weight, block) for e4m3, as in decode_fp8; (of the weight, of x) for int8; None for bfloat16.
inline void linear(py::tuple inputs, py::handle weight_, py::object scales, py::handle bias_, py::handle gate_,
                   py::handle residual_, py::handle out_, int64_t gelu_from, int unit, int threads) {
  hunyuan_linear_args args{};
  std::vector<Tensor> tensors;
  tensors.reserve(2);
  args.x_dtype = set_inputs(inputs, args, tensors);
  const Tensor weight(weight_, "weight"), out = Tensor(out_, "out").as_tokens();
  weight.require(2, 1, weight.dtype).require_shape({weight.shape[0], args.in_columns[0] + args.in_columns[1]});
  const int64_t columns = weight.shape[0], depth = weight.shape[1];
  args.weight = weight.data, args.weight_dtype = weight.dtype, args.weight_row_stride = weight.stride[0];
  args.out_columns = columns, args.out_dtype = out.dtype, args.unit = static_cast<hunyuan_linear_unit>(unit);
  out.require(3, 1, out.dtype).require_shape({args.batch, args.tokens, columns});
  args.out = out.data, args.out_stride[0] = out.stride[0], args.out_stride[1] = out.stride[1];
  args.gelu_from = gelu_from, args.rows_per_scale = 1, args.columns_per_scale = depth;
  if (!scales.is_none()) {
    const py::tuple pair = scales;
    const Tensor scale(pair[0], "scale");
    args.weight_scale = static_cast<const float*>(scale.data);
    if (weight.dtype == HUNYUAN_I8) {
      const Tensor x_scale(pair[1], "x_scale");
      x_scale.require(1, 1, HUNYUAN_F32).require_shape({args.batch * args.tokens}).require_beside(out);
      scale.require(1, 1, HUNYUAN_F32).require_shape({columns}).require_beside(out);
      args.x_scale = static_cast<const float*>(x_scale.data);
    } else {
      const auto block = pair[1].cast<int64_t>();
      read_scale(scale.require_beside(out), block, columns, depth, args);
    }
  }
  if (!bias_.is_none()) {
    const Tensor bias(bias_, "bias");
    args.bias = bias.require(1, 1, out.dtype).require_shape({columns}).require_beside(out).data;
  }
  if (!gate_.is_none()) {
    const Tensor gate(gate_, "gate");
    args.gate = gate.require(2, 1, out.dtype).require_shape({args.batch, columns}).require_beside(out).data;
    args.gate_stride = gate.stride[0];
  }
  if (!residual_.is_none()) {
    const Tensor residual(residual_, "residual");
    residual.require(3, 1, out.dtype).require_shape({args.batch, args.tokens, columns}).require_beside(out);
    args.residual = residual.data;
    args.residual_stride[0] = residual.stride[0], args.residual_stride[1] = residual.stride[1];
  }
  const Tensor& last = tensors.back();
  run(hunyuan_linear, args, target_of({&tensors[0], &last, &weight, &out}, threads), weight.count() + out.count());
}

inline void quantize_int8(py::tuple inputs, py::handle out_, py::handle scale_, bool plus_128, int threads) {
  hunyuan_quantize_int8_args args{};
  std::vector<Tensor> tensors;
  tensors.reserve(2);
  args.dtype = set_inputs(inputs, args, tensors);
  const Tensor out(out_, "out"), scale(scale_, "scale");
  const int64_t rows = args.batch * args.tokens;
  out.require(2, 1, HUNYUAN_I8).require_shape({rows, args.in_columns[0] + args.in_columns[1]});
  scale.require(1, 1, HUNYUAN_F32).require_shape({rows});
  args.out = static_cast<int8_t*>(out.data), args.out_row_stride = out.stride[0];
  args.scale = static_cast<float*>(scale.data), args.plus_128 = plus_128;
  run(hunyuan_quantize_int8, args, target_of({&tensors[0], &tensors.back(), &out, &scale}, threads), out.count());
}

}  // namespace hunyuan::binding
