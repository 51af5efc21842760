// Ops on volumes [B, C, T, H, W]. Included by bindings.cpp alone.
#pragma once

#include "bindings/tensor.h"

namespace hunyuan::binding {

constexpr int kChannelsFirst[] = {4, 3, 2, 1, 0}, kChannelsLast[] = {1, 4, 3, 2, 0};  // innermost first

// Whether a volume [B, C, T, H, W] is stored channels-last; where both hold (C = 1, one position) it is not.
inline bool channels_last(const Tensor& x) {
  x.require(5, 0, x.dtype);
  if (x.dense_as(kChannelsFirst, 5)) return false;
  if (!x.dense_as(kChannelsLast, 5))
    throw py::value_error(x.text() + ": must be contiguous, as NCDHW or channels_last_3d");
  return true;
}

using Pad = std::array<int64_t, 3>;  // frames in front, rows and columns on both sides

inline void require_padded(const Tensor& out, const Tensor& x, const Pad& pad, bool last) {
  out.require(5, 0, x.dtype)
      .require_shape({x.shape[0], x.shape[1], x.shape[2] + pad[0], x.shape[3] + 2 * pad[1], x.shape[4] + 2 * pad[2]});
  if (!out.dense_as(last ? kChannelsLast : kChannelsFirst, 5))
    throw py::value_error(out.text() + ": must be contiguous in the memory format of " + x.text());
}

inline void pad_causal(py::handle x_, py::handle out_, Pad pad, int threads) {
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

inline void group_norm_silu(py::handle x_, py::handle weight, py::handle bias, py::handle out_, int64_t groups,
                            float eps, bool silu, Pad pad, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  const bool last = channels_last(x);
  require_padded(out, x, pad, last);
  hunyuan_group_norm_silu_args args{};
  args.affine_dtype = HUNYUAN_OTHER;
  args.weight = vector_data(weight, "weight", x.shape[1], x, args.affine_dtype);
  args.bias = vector_data(bias, "bias", x.shape[1], x, args.affine_dtype);
  args.x = x.data, args.out = out.data;
  args.batch = x.shape[0], args.channels = x.shape[1];
  args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  args.groups = groups, args.eps = eps, args.silu = silu, args.channels_last = last, args.dtype = x.dtype;
  run(hunyuan_group_norm_silu, args, target_of({&x, &out}, threads), x.count());
}

}  // namespace hunyuan::binding
