// Ops on volumes [B, C, T, H, W]. Included by bindings.cpp alone.
#pragma once

#include "bindings/tensor.h"
#include "hunyuan_moments.h"

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

inline hunyuan_group_norm_silu_args group_norm_args(const Tensor& x, int64_t groups) {
  hunyuan_group_norm_silu_args args{};
  args.x = x.data, args.batch = x.shape[0], args.channels = x.shape[1];
  args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  args.groups = groups, args.dtype = x.dtype;
  return args;
}

// Bytes of workspace that group_norm_silu needs for x; 0 on the CPU.
inline int64_t group_norm_silu_workspace(py::handle x_, int64_t groups, bool has_moments) {
  const Tensor x(x_, "x");
  x.require(5, 0, x.dtype);
  hunyuan_group_norm_silu_args args = group_norm_args(x, groups);
  static const float anything = 0.0f;
  args.moments = has_moments ? &anything : nullptr;
  return hunyuan_group_norm_silu_workspace(&args, {x.device, nullptr, 1});
}

// moments: [B, chunks, groups, 3] float32 or None; workspace: uint8 or None on the CPU.
inline void group_norm_silu(py::handle x_, py::handle weight, py::handle bias, py::handle out_, int64_t groups,
                            float eps, bool silu, Pad pad, py::handle moments_, py::handle workspace_, int threads) {
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

// ---- Slabs [t, h, W, C] of one sample's volume: the steps of a convolution layer done a few frames at a time ----

inline void require_slab(const Tensor& out, const Tensor& x, const Pad& pad) {
  x.require(4, 4, x.dtype);
  out.require(4, 4, x.dtype)
      .require_shape({x.shape[0] + pad[0], x.shape[1] + 2 * pad[1], x.shape[2] + 2 * pad[2], x.shape[3]});
}

inline void pad_slab(py::handle x_, py::handle out_, Pad pad, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  require_slab(out, x, pad);
  hunyuan_pad_causal_args args{};
  args.x = x.data, args.out = out.data;
  args.planes = 1, args.cell_bytes = x.shape[3] * x.item_bytes;
  args.frames = x.shape[0], args.rows = x.shape[1], args.columns = x.shape[2];
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  run(hunyuan_pad_causal, args, target_of({&x, &out}, threads), x.count());
}

inline void norm_slab(py::handle x_, py::handle affine_, py::handle out_, bool silu, Pad pad, int threads) {
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
inline void channel_moments(py::handle x_, py::handle totals_, int64_t seen, int threads) {
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

}  // namespace hunyuan::binding
