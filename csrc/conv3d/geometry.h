// Sizes and index arithmetic of a causal convolution over a padded channels-last volume, all in 64 bits: a clip of
// 129 x 720 x 1280 x 128 has 15 G elements. Host-callable; tests/cpp/test_conv_geometry.cpp checks it.
#pragma once

#include <stdint.h>

#include "common/host/host_device.h"
#include "hunyuan/conv3d.h"

namespace hunyuan::conv3d {

constexpr int kMostTaps = 64;  // of a kernel: 3x3x3 has 27

struct Point {
  int64_t frame, row, column;
};

struct Geometry {
  int64_t batch, channels, out_channels;
  int64_t in_frames, in_rows, in_columns;  // of the padded input
  int64_t out_frames, out_rows, out_columns;
  int64_t kernel[3], stride[3];  // frames, rows, columns

  HUNYUAN_HOST_DEVICE constexpr int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  HUNYUAN_HOST_DEVICE constexpr int64_t positions() const {
    return out_frames * out_rows * out_columns;
  }  // of a sample

  HUNYUAN_HOST_DEVICE constexpr Point tap(int64_t index) const {
    return {index / (kernel[1] * kernel[2]), index / kernel[2] % kernel[1], index % kernel[2]};
  }
  HUNYUAN_HOST_DEVICE constexpr Point position(int64_t index) const {
    return {index / (out_rows * out_columns), index / out_columns % out_rows, index % out_columns};
  }
  // Element of the padded input, channel 0.
  HUNYUAN_HOST_DEVICE constexpr int64_t input(int64_t b, const Point& at) const {
    return (((b * in_frames + at.frame) * in_rows + at.row) * in_columns + at.column) * channels;
  }
  // Where the window of an output position starts, and how far a tap is from there.
  HUNYUAN_HOST_DEVICE constexpr int64_t window(int64_t b, const Point& at) const {
    return input(b, {at.frame * stride[0], at.row * stride[1], at.column * stride[2]});
  }
  HUNYUAN_HOST_DEVICE constexpr int64_t tap_offset(int64_t index) const { return input(0, tap(index)); }
  HUNYUAN_HOST_DEVICE constexpr int64_t output(int64_t b, int64_t position) const {
    return (b * positions() + position) * out_channels;
  }
};

HUNYUAN_HOST_DEVICE constexpr int64_t output_size(int64_t in, int64_t kernel, int64_t stride) {
  return in < kernel ? 0 : (in - kernel) / stride + 1;
}

inline Geometry geometry_of(const hunyuan_causal_conv3d_args& args) {
  Geometry g{};
  g.batch = args.batch, g.channels = args.channels, g.out_channels = args.out_channels;
  g.in_frames = args.frames, g.in_rows = args.rows, g.in_columns = args.columns;
  for (int i = 0; i < 3; ++i) g.kernel[i] = args.kernel[i], g.stride[i] = args.stride[i];
  g.out_frames = output_size(g.in_frames, g.kernel[0], g.stride[0]);
  g.out_rows = output_size(g.in_rows, g.kernel[1], g.stride[1]);
  g.out_columns = output_size(g.in_columns, g.kernel[2], g.stride[2]);
  return g;
}

// An output tile of the Hopper kernel: kBoxPositions positions of one frame, as rows x columns. The copy engine fetches
// a tap of it as one box of the input, so no index is computed in the main loop.
struct Box {
  int rows, columns;
};
constexpr int kBoxPositions = 256;
constexpr Box kBoxes[] = {{16, 16}, {8, 32}, {4, 64}, {2, 128}, {32, 8}};  // rows even: a box is fetched in two halves

struct BoxGrid {
  Box box;
  int64_t rows, columns, frames, batch;  // counts of boxes; one frame each

  HUNYUAN_HOST_DEVICE constexpr int64_t per_sample() const { return frames * rows * columns; }
  HUNYUAN_HOST_DEVICE constexpr int64_t count() const { return batch * per_sample(); }
  HUNYUAN_HOST_DEVICE constexpr int64_t sample(int64_t index) const { return index / per_sample(); }
  // First position of a box of a sample.
  HUNYUAN_HOST_DEVICE constexpr Point corner(int64_t index) const {
    const int64_t i = index % per_sample();
    return {i / (rows * columns), i / columns % rows * box.rows, i % columns * box.columns};
  }
};

constexpr BoxGrid box_grid(const Geometry& g, const Box& box) {
  return {box, (g.out_rows + box.rows - 1) / box.rows, (g.out_columns + box.columns - 1) / box.columns, g.out_frames,
          g.batch};
}

// The box with the fewest tiles, the squarest on a tie: a square box has the smallest border that its taps share.
constexpr BoxGrid best_grid(const Geometry& g) {
  BoxGrid best = box_grid(g, kBoxes[0]);
  for (const Box& box : kBoxes) {
    const BoxGrid grid = box_grid(g, box);
    if (grid.count() < best.count()) best = grid;
  }
  return best;
}

}  // namespace hunyuan::conv3d
