// Linear layers, and what quantizes their inputs and decodes their weights.
#include "hunyuan/linear.h"

#include <vector>

#include "bindings/tensor.h"

namespace hunyuan::binding {
namespace {

// A scale [] or [rows, 1], or [row blocks, column blocks] with `block` rows and columns each, into the fields that the
// structures of quantized weights share.
template <class Args>
void read_scale(const Tensor& scale, int64_t block, int64_t rows, int64_t columns, Args& args) {
  args.rows_per_scale = 1, args.columns_per_scale = columns > 0 ? columns : 1;
  if (scale.dims == 0) {
    scale.require(0, 0, HUNYUAN_F32);
  } else if (block == 0) {
    scale.require(2, 1, HUNYUAN_F32).require_shape({rows, 1});
    args.scale_row_stride = scale.stride[0];
  } else {
    scale.require(2, 1, HUNYUAN_F32).require_shape({(rows + block - 1) / block, (columns + block - 1) / block});
    args.scale_row_stride = scale.stride[0], args.rows_per_scale = block, args.columns_per_scale = block;
  }
}

void decode_fp8(py::handle weight_, py::handle scale_, py::handle out_, int64_t block, int threads) {
  const Tensor weight(weight_, "weight"), scale(scale_, "scale"), out(out_, "out");
  weight.require(2, 1, HUNYUAN_E4M3);
  const int64_t rows = weight.shape[0], columns = weight.shape[1];
  out.require(2, 2, out.dtype).require_shape({rows, columns});
  hunyuan_decode_fp8_args args{};
  args.weight = static_cast<const uint8_t*>(weight.data), args.scale = static_cast<const float*>(scale.data);
  args.out = out.data, args.rows = rows, args.columns = columns, args.weight_row_stride = weight.stride[0];
  args.out_dtype = out.dtype;
  read_scale(scale, block, rows, columns, args);
  run(hunyuan_decode_fp8, args, target_of({&weight, &scale, &out}, threads), weight.count());
}

bool has_linear_unit(int unit, bool integer) {
  return hunyuan_has_linear_unit(static_cast<hunyuan_linear_unit>(unit), integer ? HUNYUAN_I8 : HUNYUAN_BF16);
}

// One or two inputs [B, S, K] or [S, K] side by side, into the fields that both argument structures share.
template <class Args>
hunyuan_dtype set_inputs(const py::tuple& inputs, Args& args, std::vector<Tensor>& tensors) {
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
void linear(py::tuple inputs, py::handle weight_, py::object scales, py::handle bias_, py::handle gate_,
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

void quantize_int8(py::tuple inputs, py::handle out_, py::handle scale_, bool plus_128, int threads) {
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

// ---- FP8 on the device ----

int64_t blocks_of(int64_t size) { return (size + 127) / 128; }

// Scales of E4M3 rows: [rows], or [blocks of 128 columns, rows]. Returns the columns that share one: 0 (all) or 128.
int64_t scale_block(const Tensor& scale, int64_t rows, int64_t columns) {
  if (scale.dims == 1) return scale.require(1, 1, HUNYUAN_F32).require_shape({rows}), 0;
  scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(columns), rows});
  return 128;
}

void quantize_rows(py::handle x_, py::handle out_, py::handle scale_) {
  const Tensor x = Tensor(x_, "x").as_rows(), out = Tensor(out_, "out").as_rows(), scale(scale_, "scale");
  x.require(2, 1, x.dtype);
  out.require(2, 2, HUNYUAN_E4M3).require_shape({x.shape[0], x.shape[1]});
  hunyuan_quantize_rows_args args{};
  args.x = x.data, args.out = out.data, args.scale = static_cast<float*>(scale.data);
  args.rows = x.shape[0], args.columns = x.shape[1], args.x_row_stride = x.stride[0], args.dtype = x.dtype;
  args.block = scale_block(scale, x.shape[0], x.shape[1]);
  run(hunyuan_quantize_rows, args, target_of({&x, &out, &scale}, 1), x.count());
}

// What follows a product of bfloat16 results [rows, columns]: bias [N], gate [B, N], residual [..., N], or none of
// them.
template <class Args>
void set_epilogue(Args& args, const Tensor& x, int64_t rows, int64_t columns, py::handle bias_, py::handle gate_,
                  py::handle residual_) {
  if (!bias_.is_none())
    args.bias = Tensor(bias_, "bias").require(1, 1, HUNYUAN_BF16).require_shape({columns}).require_beside(x).data;
  if (!gate_.is_none()) {
    const Tensor gate(gate_, "gate");
    gate.require(2, 1, HUNYUAN_BF16).require_beside(x);
    if (gate.shape[1] != columns || gate.shape[0] <= 0 || rows % gate.shape[0] != 0)
      throw py::value_error("gate: its shape does not fit the other arguments");
    args.gate = gate.data, args.gate_stride = gate.stride[0], args.tokens = rows / gate.shape[0];
  }
  if (!residual_.is_none()) {
    const Tensor residual = Tensor(residual_, "residual").as_rows();
    residual.require(2, 2, HUNYUAN_BF16).require_shape({rows, columns}).require_beside(x);
    args.residual = residual.data;
  }
}

// The weight of an FP8 product and what follows it: weight [N, K] in E4M3; bias, gate, residual, out in bfloat16, or
// out in E4M3 with out_scale. Leading dimensions are taken together.
void set_product(hunyuan_linear_fp8_args& args, const Tensor& x, int64_t rows, int64_t inner, const Tensor& weight,
                 const Tensor& weight_scale, py::handle bias_, py::handle gate_, py::handle residual_,
                 const Tensor& out, py::handle out_scale_, bool gelu) {
  const int64_t columns = weight.shape[0];
  weight.require(2, 2, HUNYUAN_E4M3).require_shape({columns, inner});
  args.weight = weight.data, args.out = out.data, args.gelu = gelu;
  args.rows = rows, args.in_columns = inner, args.out_columns = columns;
  args.weight_scale = static_cast<const float*>(weight_scale.data);
  if (weight_scale.dims == 0) {
    weight_scale.require(0, 0, HUNYUAN_F32);
  } else if (weight_scale.dims == 2 && weight_scale.shape[1] == 1 && weight_scale.shape[0] == columns) {
    weight_scale.require(2, 2, HUNYUAN_F32), args.weight_scales = 1;
  } else {
    weight_scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(columns), blocks_of(inner)});
    args.weight_scales = 128;
  }
  set_epilogue(args, x, rows, columns, bias_, gate_, residual_);
  if (out_scale_.is_none()) {
    out.require(2, 2, HUNYUAN_BF16).require_shape({rows, columns});
  } else {
    const Tensor out_scale(out_scale_, "out_scale");
    out.require(2, 2, HUNYUAN_E4M3).require_shape({rows, columns});
    out_scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(columns), rows}).require_beside(x);
    args.out_scale = static_cast<float*>(out_scale.data);
  }
}

// x [..., K] in E4M3, perhaps in two parts, which are K together; the rest as in set_product.
void linear_fp8(py::handle x_, py::handle x_scale_, py::handle x_tail_, py::handle x_tail_scale_, py::handle weight_,
                py::handle weight_scale_, py::handle bias_, py::handle gate_, py::handle residual_, py::handle out_,
                py::handle out_scale_, bool gelu) {
  const Tensor x = Tensor(x_, "x").as_rows(), x_scale(x_scale_, "x_scale"), weight(weight_, "weight");
  const Tensor weight_scale(weight_scale_, "weight_scale"), out = Tensor(out_, "out").as_rows();
  const int64_t rows = x.shape[0];
  x.require(2, 2, HUNYUAN_E4M3);
  hunyuan_linear_fp8_args args{};
  int64_t inner = x.shape[1];
  if (!x_tail_.is_none()) {
    const Tensor tail = Tensor(x_tail_, "x_tail").as_rows(), tail_scale(x_tail_scale_, "x_tail_scale");
    tail.require(2, 2, HUNYUAN_E4M3).require_shape({rows, tail.shape[1]}).require_beside(x);
    tail_scale.require(2, 2, HUNYUAN_F32).require_shape({blocks_of(tail.shape[1]), rows}).require_beside(x);
    args.x_tail = tail.data, args.x_tail_scale = static_cast<const float*>(tail_scale.data);
    args.head_columns = inner, inner += tail.shape[1];
  }
  args.x = x.data, args.x_scale = static_cast<const float*>(x_scale.data);
  args.x_block = scale_block(x_scale, rows, x.shape[1]);
  set_product(args, x, rows, inner, weight, weight_scale, bias_, gate_, residual_, out, out_scale_, gelu);
  run(hunyuan_linear_fp8, args, target_of({&x, &x_scale, &weight, &weight_scale, &out}, 1), out.count());
}

// Bytes of codes [rows, columns] in a workspace, whose scales follow them.
int64_t code_bytes(int64_t rows, int64_t columns) { return (rows * columns + 255) / 256 * 256; }

// quantize_rows, then linear_fp8, of x [..., K] that is not quantized: one call for the host. workspace: uint8, for
// codes and scales (a row, or by `block` = 128 columns), from a multiple of 16 bytes on.
void quantized_linear_fp8(py::handle x_, py::handle workspace_, py::handle weight_, py::handle weight_scale_,
                          py::handle bias_, py::handle gate_, py::handle residual_, py::handle out_, int64_t block,
                          bool gelu) {
  const Tensor x = Tensor(x_, "x").as_rows(), workspace(workspace_, "workspace"), weight(weight_, "weight");
  const Tensor weight_scale(weight_scale_, "weight_scale"), out = Tensor(out_, "out").as_rows();
  x.require(2, 1, x.dtype);
  const int64_t rows = x.shape[0], columns = x.shape[1], codes = code_bytes(rows, columns);
  const int64_t scales = (block ? blocks_of(columns) : 1) * rows;
  if (workspace.count() * workspace.item_bytes < codes + 4 * scales || !workspace.dense(workspace.dims))
    throw py::value_error("workspace: is too small or not contiguous");
  char* const memory = static_cast<char*>(workspace.data);
  hunyuan_quantize_rows_args before{};
  before.x = x.data, before.out = memory, before.scale = reinterpret_cast<float*>(memory + codes);
  before.rows = rows, before.columns = columns, before.x_row_stride = rows == 1 ? columns : x.stride[0];
  before.dtype = x.dtype, before.block = block;
  hunyuan_linear_fp8_args args{};
  args.x = memory, args.x_scale = before.scale, args.x_block = block;
  set_product(args, x, rows, columns, weight, weight_scale, bias_, gate_, residual_, out, py::none(), gelu);
  const hunyuan_target target = target_of({&x, &workspace, &weight, &weight_scale, &out}, 1);
  int status;
  {
    py::gil_scoped_release released;
    status = hunyuan_quantize_rows(&before, target);
    if (status == HUNYUAN_OK) status = hunyuan_linear_fp8(&args, target);
  }
  check(status);
}

// x [..., K] in bfloat16, at most 16 rows, weight [N, K] in E4M3; bias, gate, residual, out [..., N]: bfloat16.
void linear_few_rows(py::handle x_, py::handle weight_, py::handle weight_scale_, py::handle bias_, py::handle gate_,
                     py::handle residual_, py::handle out_, bool gelu) {
  const Tensor x = Tensor(x_, "x").as_rows(), weight(weight_, "weight"), weight_scale(weight_scale_, "weight_scale");
  const Tensor out = Tensor(out_, "out").as_rows();
  hunyuan_linear_few_rows_args args{};
  const int64_t rows = x.shape[0], inner = x.shape[1], columns = weight.shape[0];
  x.require(2, 1, HUNYUAN_BF16);
  weight.require(2, 2, HUNYUAN_E4M3).require_shape({columns, inner});
  out.require(2, 2, HUNYUAN_BF16).require_shape({rows, columns});
  args.x = x.data, args.x_row_stride = rows == 1 ? 0 : x.stride[0], args.weight = weight.data, args.out = out.data;
  args.rows = rows, args.in_columns = inner, args.out_columns = columns, args.gelu = gelu;
  args.weight_scale = static_cast<const float*>(weight_scale.data), args.scale_per_row = weight_scale.dims == 2;
  if (args.scale_per_row)
    weight_scale.require(2, 2, HUNYUAN_F32).require_shape({columns, 1});
  else
    weight_scale.require(0, 0, HUNYUAN_F32);
  set_epilogue(args, x, rows, columns, bias_, gate_, residual_);
  check(hunyuan_linear_few_rows(&args, target_of({&x, &weight, &weight_scale, &out}, 1)));
}

}  // namespace

void bind_linear(py::module_& module) {
  module.def("decode_fp8", &decode_fp8, py::arg("weight"), py::arg("scale"), py::arg("out"), py::arg("block"),
             py::arg("threads"));
  module.def("has_linear_unit", &has_linear_unit, py::arg("unit"), py::arg("integer"));
  module.def("linear", &linear, py::arg("inputs"), py::arg("weight"), py::arg("scales"), py::arg("bias"),
             py::arg("gate"), py::arg("residual"), py::arg("out"), py::arg("gelu_from"), py::arg("unit"),
             py::arg("threads"));
  module.def("quantize_int8", &quantize_int8, py::arg("inputs"), py::arg("out"), py::arg("scale"), py::arg("plus_128"),
             py::arg("threads"));
  module.def("quantize_rows", &quantize_rows, py::arg("x"), py::arg("out"), py::arg("scale"));
  module.def("linear_fp8", &linear_fp8, py::arg("x"), py::arg("x_scale"), py::arg("x_tail"), py::arg("x_tail_scale"),
             py::arg("weight"), py::arg("weight_scale"), py::arg("bias"), py::arg("gate"), py::arg("residual"),
             py::arg("out"), py::arg("out_scale"), py::arg("gelu"));
  module.def("quantized_linear_fp8", &quantized_linear_fp8, py::arg("x"), py::arg("workspace"), py::arg("weight"),
             py::arg("weight_scale"), py::arg("bias"), py::arg("gate"), py::arg("residual"), py::arg("out"),
             py::arg("block"), py::arg("gelu"));
  module.def("linear_few_rows", &linear_few_rows, py::arg("x"), py::arg("weight"), py::arg("weight_scale"),
             py::arg("bias"), py::arg("gate"), py::arg("residual"), py::arg("out"), py::arg("gelu"));
}

}  // namespace hunyuan::binding
