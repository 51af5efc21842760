// FP8 product on wgmma (Hopper): 256 x 128 tiles, 128 columns of K a step, whatever the size and what follows.
#include "common/cuda/cuda.cuh"
#include "common/cuda/tensor_map.cuh"
#include "common/matmul/wgmma_tile.cuh"
#include "linear/cuda/epilogue.cuh"
#include "linear/cuda/promotion.cuh"
#include "linear/sm90/products.h"

namespace hunyuan::linear {
namespace {

using matmul::TileIndex;
constexpr int64_t kGroup = 8;  // tile rows of a rectangle of tiles that run together: 2048 rows, 6 MB of x at K = 3072

struct Params {
  CUtensorMap a, a_tail, b;  // a_tail: the columns of K from head_columns on
  int head_columns;
  matmul::PairOrder order;
  int steps;
  hunyuan_linear_fp8_args args;
  Output output;
};

template <bool kPromote>
struct Linear {
  using Tile = matmul::WgmmaTile<matmul::WideE4m3, kPromote>;
  using Params = linear::Params;

  struct Source {
    const Params& params;
    const int row, column;
    int k = 0;

    __device__ Source(const Params& params, const TileIndex& tile)
        : params(params),
          row(static_cast<int>(tile.row) * Tile::kRows),
          column(static_cast<int>(tile.column) * Tile::kColumns) {}
    __device__ void fetch_a(int part, uint32_t destination, uint32_t full, uint16_t blocks) const {
      const bool tail = k >= params.head_columns;
      fetch(tail ? params.a_tail : params.a, destination, full, tail ? k - params.head_columns : k,
            row + part * Tile::kRows / 2, blocks, ptx::evict_normal());
    }
    __device__ void fetch_b(int part, uint32_t destination, uint32_t full, uint16_t blocks) const {
      fetch(params.b, destination, full, k, column + part * Tile::kColumns / 2, blocks, ptx::evict_last());
    }
    __device__ void advance() { k += kStepColumns; }

   private:
    __device__ static void fetch(const CUtensorMap& map, uint32_t destination, uint32_t full, int k, int from,
                                 uint16_t blocks, uint64_t policy) {
      if (blocks)
        ptx::copy_box_multicast(&map, destination, full, k, from, 0, 0, blocks, policy);
      else
        ptx::copy_box(&map, destination, full, k, from, 0, 0, policy);
    }
  };

  __device__ static StepScales promotion(const Params& params, const TileIndex& tile) {
    return step_scales(params.args, static_cast<int>(tile.row) * Tile::kRows,
                       static_cast<int>(tile.column) * Tile::kColumns);
  }

  using Finish = matmul::PlainFinish<Linear, Params>;
  __device__ static void finish(const Params& params, const TileIndex& tile, typename Tile::Accumulators& acc,
                                float* scratch) {
    finish_tile<Tile>(params.output, acc, static_cast<int>(tile.row) * Tile::kRows,
                      static_cast<int>(tile.column) * Tile::kColumns, scratch);
  }
};

// Rows of 128 columns of an e4m3 matrix; outside of it the copy engine gives zeros.
int map_matrix(CUtensorMap* map, const void* data, int64_t rows, int64_t columns, int box_rows, const char* what) {
  const BoxView view{data, {columns, rows, 1, 1}, {1, columns}, {kStepColumns, box_rows, 1, 1}, {1, 1, 1, 1}};
  return make_box_map(map, view, 4, matmul::WideE4m3::kMapType, 1, what);
}

}  // namespace

int sm90_general_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  using matmul::ceil_div;
  using Tile = Linear<false>::Tile;
  const bool promotion = needs_promotion(args);
  Params params{};
  params.order =
      matmul::pair_order(ceil_div(args.rows, Tile::kRows), ceil_div(args.out_columns, Tile::kColumns), kGroup);
  params.steps = static_cast<int>(ceil_div(args.in_columns, kStepColumns));
  params.args = args;
  params.output = output_of(args, promotion);
  const int64_t head = args.x_tail ? args.head_columns : args.in_columns;
  params.head_columns = static_cast<int>(head);
  if (const int status = map_matrix(&params.a, args.x, args.rows, head, Tile::kRows / 2, "linear_fp8: x"))
    return status;
  if (args.x_tail)
    if (const int status = map_matrix(&params.a_tail, args.x_tail, args.rows, args.in_columns - head, Tile::kRows / 2,
                                      "linear_fp8: x_tail"))
      return status;
  if (const int status = map_matrix(&params.b, args.weight, args.out_columns, args.in_columns, Tile::kColumns / 2,
                                    "linear_fp8: weight"))
    return status;
  return promotion ? matmul::launch_wgmma<Linear<true>>("linear_fp8", params, target)
                   : matmul::launch_wgmma<Linear<false>>("linear_fp8", params, target);
}

}  // namespace hunyuan::linear
