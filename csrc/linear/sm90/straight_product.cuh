// FP8 product on wgmma with the straight epilogue: one kernel for each end, and each again for scales by block.
#pragma once

#include "common/cuda/cuda.cuh"
#include "common/cuda/tensor_map.cuh"
#include "common/matmul/wgmma_tile.cuh"
#include "linear/cuda/promotion.cuh"
#include "linear/sm90/straight_epilogue.cuh"

namespace hunyuan::linear {

struct StraightParams {
  CUtensorMap a, a_tail, b;  // a_tail: the columns of K from head_columns on
  int head_columns;
  matmul::PairOrder order;
  int steps;
  hunyuan_linear_fp8_args args;
  StraightOutput output;
};

template <bool kPromote, End kEnd>
struct StraightLinear {
  using Tile = matmul::WgmmaTile<matmul::WideE4m3, kPromote>;
  using Params = StraightParams;

  struct Source {
    const Params& params;
    const int row, column;
    int k = 0;

    __device__ Source(const Params& params, const matmul::TileIndex& tile)
        : params(params),
          row(static_cast<int>(tile.row) * Tile::kRows),
          column(static_cast<int>(tile.column) * Tile::kColumns) {}
    __device__ void fetch_a(int part, uint32_t destination, uint32_t full, uint16_t blocks) const {
      const bool tail = k >= params.head_columns;
      const CUtensorMap* map = tail ? &params.a_tail : &params.a;
      const int first = row + part * Tile::kRows / 2, from = tail ? k - params.head_columns : k;
      if (blocks)
        ptx::copy_box_multicast(map, destination, full, from, first, 0, 0, blocks, ptx::evict_normal());
      else
        ptx::copy_box(map, destination, full, from, first, 0, 0, ptx::evict_normal());
    }
    __device__ void fetch_b(int part, uint32_t destination, uint32_t full, uint16_t blocks) const {
      const int strip = (column + part * Tile::kColumns / 2) / matmul::kFragmentColumns;
      if (blocks)
        ptx::copy_box_multicast(&params.b, destination, full, k, 0, 0, 0, strip, blocks, ptx::evict_last());
      else
        ptx::copy_box(&params.b, destination, full, k, 0, 0, 0, strip, ptx::evict_last());
    }
    __device__ void advance() { k += kStepColumns; }
  };

  __device__ static StepScales promotion(const Params& params, const matmul::TileIndex& tile) {
    return step_scales(params.args, static_cast<int>(tile.row) * Tile::kRows,
                       static_cast<int>(tile.column) * Tile::kColumns);
  }

  struct Finish : StraightEpilogue<Tile, kEnd> {
    __device__ Finish(const Params& params, const matmul::TileIndex& tile)
        : StraightEpilogue<Tile, kEnd>(params.output, static_cast<int>(tile.row) * Tile::kRows,
                                       static_cast<int>(tile.column) * Tile::kColumns) {}
  };
};

// Rows of 128 columns of x; outside of it the copy engine gives zeros.
inline int map_rows(CUtensorMap* map, const void* data, int64_t rows, int64_t columns, int box_rows, const char* what) {
  const BoxView view{data, {columns, rows, 1, 1}, {1, columns}, {kStepColumns, box_rows, 1, 1}, {1, 1, 1, 1}};
  return make_box_map(map, view, 4, matmul::WideE4m3::kMapType, 1, what);
}

// Rows of the weight in strips of 32 in the order of output_column: row 32 s + 8 q + 2 c + e of the weight becomes row
// 32 s + 8 c + 2 q + e in shared memory.
inline int map_permuted_rows(CUtensorMap* map, const void* data, int64_t rows, int64_t columns, int box_rows,
                             const char* what) {
  const BoxView view{data,
                     {columns, 2, 4, 4, rows / 32},  // K, e, q, c, s
                     {1, columns, 8 * columns, 2 * columns, 32 * columns},
                     {kStepColumns, 2, 4, 4, box_rows / 32},
                     {1, 1, 1, 1, 1}};
  return make_box_map(map, view, 5, matmul::WideE4m3::kMapType, 1, what);
}

// Everything but `params.order`.
template <class Linear>
int describe_straight(const hunyuan_linear_fp8_args& args, StraightParams* params) {
  using Tile = typename Linear::Tile;
  params->steps = static_cast<int>(matmul::ceil_div(args.in_columns, kStepColumns));
  params->args = args;
  params->output = straight_output_of(args, Tile::kPromote);
  const int64_t head = args.x_tail ? args.head_columns : args.in_columns;
  params->head_columns = static_cast<int>(head);
  if (const int status = map_rows(&params->a, args.x, args.rows, head, Tile::kRows / 2, "linear_fp8: x")) return status;
  if (args.x_tail)
    if (const int status = map_rows(&params->a_tail, args.x_tail, args.rows, args.in_columns - head, Tile::kRows / 2,
                                    "linear_fp8: x_tail"))
      return status;
  return map_permuted_rows(&params->b, args.weight, args.out_columns, args.in_columns, Tile::kColumns / 2,
                           "linear_fp8: weight");
}

// `args` are those that takes() accepts.
inline End end_of(const hunyuan_linear_fp8_args& args) {
  if (args.out_scale) return End::kQuantize;
  if (args.gate) return End::kGate;
  return args.gelu ? End::kGelu : End::kBias;
}

template <bool kPromote, End kEnd>
int run_straight(const hunyuan_linear_fp8_args& args, const matmul::PairOrder& order, hunyuan_target target) {
  using Linear = StraightLinear<kPromote, kEnd>;
  StraightParams params{};
  params.order = order;
  if (const int status = describe_straight<Linear>(args, &params)) return status;
  return matmul::launch_wgmma<Linear>("linear_fp8", params, target);
}

}  // namespace hunyuan::linear
