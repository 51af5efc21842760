// Causal convolution as an implicit matrix product on wgmma (Hopper). An output tile is a box of positions of one
// frame; since the input already carries its padding, a tap of the whole tile is one shifted box of it, which the copy
// engine fetches (stride 2 by stepping over every second element): no index is computed and no padding is known here.
#include "common/cuda/cuda.cuh"
#include "common/cuda/tensor_map.cuh"
#include "common/matmul/wgmma_tile.cuh"
#include "conv3d/conv3d.h"
#include "conv3d/cuda/epilogue.cuh"
#include "conv3d/geometry.h"

namespace hunyuan::conv3d {
namespace {

using matmul::TileIndex;
constexpr int kPanelChannels = ptx::kPanelBytes / 2;  // of a K step: one tap, 64 channels

struct Params {
  CUtensorMap a, b;  // a: [B, T, H, W, C] of x; b: [N, taps, C] of the weight
  matmul::PairOrder order;
  int steps;
  Geometry geometry;
  BoxGrid grid;
  int box_columns_log2;
  Output output;
};

template <class Operand>
struct Convolution {
  using Tile = matmul::WgmmaTile<Operand, false>;
  using Params = conv3d::Params;
  using T = typename Operand::Type;
  static_assert(Tile::kRows == kBoxPositions, "a box is the rows of a tile");

  // Walks over channels, then taps: the innermost loop over taps would reuse more of L1, but TMA goes past it.
  struct Source {
    const Params& params;
    int sample, frame, row, column, first_channel;  // where the tile's window starts in the input; first output channel
    int channel = 0, tap = 0, tap_frame = 0, tap_row = 0, tap_column = 0;

    __device__ Source(const Params& params, const TileIndex& tile)
        : params(params), first_channel(static_cast<int>(tile.column) * Tile::kColumns) {
      const Point corner = params.grid.corner(tile.row);
      const Geometry& g = params.geometry;
      sample = static_cast<int>(params.grid.sample(tile.row));
      frame = static_cast<int>(corner.frame * g.stride[0]);
      row = static_cast<int>(corner.row * g.stride[1]);
      column = static_cast<int>(corner.column * g.stride[2]);
    }
    // Parts are the upper and the lower half of the box.
    __device__ void fetch_a(int part, uint32_t destination, uint32_t full, uint16_t blocks) const {
      const int first_row =
          row + part * params.grid.box.rows / 2 * static_cast<int>(params.geometry.stride[1]) + tap_row;
      if (blocks)
        ptx::copy_box_multicast(&params.a, destination, full, channel, column + tap_column, first_row,
                                frame + tap_frame, sample, blocks, ptx::evict_normal());
      else
        ptx::copy_box(&params.a, destination, full, channel, column + tap_column, first_row, frame + tap_frame, sample,
                      ptx::evict_normal());
    }
    __device__ void fetch_b(int part, uint32_t destination, uint32_t full, uint16_t blocks) const {
      const int from = first_channel + part * Tile::kColumns / 2;
      if (blocks)
        ptx::copy_box_multicast(&params.b, destination, full, channel, tap, from, 0, blocks, ptx::evict_last());
      else
        ptx::copy_box(&params.b, destination, full, channel, tap, from, 0, ptx::evict_last());
    }
    __device__ void advance() {
      channel += kPanelChannels;
      if (channel < params.geometry.channels) return;
      channel = 0;
      ++tap;
      if (++tap_column < params.geometry.kernel[2]) return;
      tap_column = 0;
      if (++tap_row < params.geometry.kernel[1]) return;
      tap_row = 0;
      ++tap_frame;
    }
  };

  using Finish = matmul::PlainFinish<Convolution, Params>;
  __device__ static void finish(const Params& params, const TileIndex& tile, typename Tile::Accumulators& acc,
                                float* scratch) {
    const Geometry& g = params.geometry;
    const Point corner = params.grid.corner(tile.row);
    const int64_t sample = params.grid.sample(tile.row);
    if (sample >= g.batch) return;  // the tile that pairs an odd one
    const int first_column = static_cast<int>(tile.column) * Tile::kColumns;
    const int64_t rows_left = g.out_rows - corner.row, columns_left = g.out_columns - corner.column;
    bool present[Tile::kRowFragments][2];
#pragma unroll
    for (int m = 0; m < Tile::kRowFragments; ++m) {
      int64_t offset[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = Tile::row(m) + matmul::lane_row() + half * 8;
        const int row = i >> params.box_columns_log2, column = i - (row << params.box_columns_log2);
        present[m][half] = row < rows_left && column < columns_left;
        const int64_t position =
            (corner.frame * g.out_rows + corner.row + row) * g.out_columns + corner.column + column;
        offset[half] = present[m][half] ? g.output(sample, position) : -1;
      }
      finish_row<T, Tile>(params.output, acc[m], offset, first_column);
    }
    if (!params.output.moments) return;
    const int64_t height = rows_left < params.grid.box.rows ? rows_left : params.grid.box.rows;
    const int64_t width = columns_left < params.grid.box.columns ? columns_left : params.grid.box.columns;
    store_moments<Tile>(params.output, acc, present, static_cast<int>(height * width), first_column, scratch,
                        params.output.moments + tile.row * params.output.groups);
  }
};

int map_input(CUtensorMap* map, const void* x, const Geometry& g, const Box& box, CUtensorMapDataType type) {
  const int64_t c = g.channels, w = g.in_columns, h = g.in_rows, t = g.in_frames;
  const BoxView view{x,
                     {c, w, h, t, g.batch},
                     {1, c, c * w, c * w * h, c * w * h * t},
                     {kPanelChannels, box.columns, box.rows / 2, 1, 1},
                     {1, static_cast<int>(g.stride[2]), static_cast<int>(g.stride[1]), 1, 1}};
  return make_box_map(map, view, 5, type, 2, "causal_conv3d: x");
}

int map_weight(CUtensorMap* map, const void* weight, const Geometry& g, int box_rows, CUtensorMapDataType type) {
  const BoxView view{weight,
                     {g.channels, g.taps(), g.out_channels, 1},
                     {1, g.channels, g.channels * g.taps()},
                     {kPanelChannels, 1, box_rows, 1},
                     {1, 1, 1, 1}};
  return make_box_map(map, view, 4, type, 2, "causal_conv3d: weight");
}

template <class Operand>
int launch_operand(const hunyuan_causal_conv3d_args& args, hunyuan_target target) {
  using Problem = Convolution<Operand>;
  using Tile = typename Problem::Tile;
  static_assert(kMomentFloats<Tile> <= Tile::kScratchFloats, "the moments must fit into the scratch memory");
  Params params{};
  const Geometry g = geometry_of(args);
  params.geometry = g;
  params.grid = best_grid(g);
  while (1 << params.box_columns_log2 < params.grid.box.columns) ++params.box_columns_log2;
  // All tiles of a row of boxes one after another: their weights stay in L2, and so do the boxes' common borders.
  params.order = matmul::pair_order(params.grid.count(), matmul::ceil_div(g.out_channels, Tile::kColumns), 1);
  params.steps = static_cast<int>(g.taps() * matmul::ceil_div(g.channels, kPanelChannels));
  params.output = output_of(args);
  if (const int status = map_input(&params.a, args.x, g, params.grid.box, Operand::kMapType)) return status;
  if (const int status = map_weight(&params.b, args.weight, g, Tile::kColumns / 2, Operand::kMapType)) return status;
  return matmul::launch_wgmma<Problem>("causal_conv3d", params, target);
}

}  // namespace

// Narrow layers would leave most of a 64-channel panel or of a 128-column tile empty; mma.sync has smaller ones.
bool sm90_takes(const hunyuan_causal_conv3d_args& args, int capability) {
  return capability == 90 && args.channels >= kPanelChannels && args.out_channels >= 64;
}

int64_t sm90_moment_chunks(const hunyuan_causal_conv3d_args& args) { return best_grid(geometry_of(args)).per_sample(); }

int sm90_causal_conv3d(const hunyuan_causal_conv3d_args& args, hunyuan_target target) {
  return args.dtype == HUNYUAN_BF16 ? launch_operand<matmul::WideBf16>(args, target)
                                    : launch_operand<matmul::WideF16>(args, target);
}

}  // namespace hunyuan::conv3d
