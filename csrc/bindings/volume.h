// Volumes [B, C, T, H, W] and slabs of them, as the convolution and norm families check them.
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

// A slab [t, h, W, C] of one sample's volume (a convolution layer is done a few frames at a time), and its padded copy.
inline void require_slab(const Tensor& out, const Tensor& x, const Pad& pad) {
  x.require(4, 4, x.dtype);
  out.require(4, 4, x.dtype)
      .require_shape({x.shape[0] + pad[0], x.shape[1] + 2 * pad[1], x.shape[2] + 2 * pad[2], x.shape[3]});
}

}  // namespace hunyuan::binding
