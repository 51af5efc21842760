// Ops on quantised weights [N, K]. Included by bindings.cpp alone.
#pragma once

#include "bindings/tensor.h"

namespace hunyuan::binding {

// A scale [] or [rows, 1], or [row blocks, column blocks] with `block` rows and columns each, into the fields that the
// structures of quantised weights share.
template <class Args>
inline void read_scale(const Tensor& scale, int64_t block, int64_t rows, int64_t columns, Args& args) {
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

inline void decode_fp8(py::handle weight_, py::handle scale_, py::handle out_, int64_t block, int threads) {
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

}  // namespace hunyuan::binding
