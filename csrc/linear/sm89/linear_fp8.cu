// FP8 product on mma.sync (Ada): 128 x 128 tiles, 128 columns of K a step.
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"
#include "common/matmul/mma_tile.cuh"
#include "common/matmul/tile_order.h"
#include "linear/cuda/epilogue.cuh"
#include "linear/cuda/promotion.cuh"
#include "linear/linear.h"

namespace hunyuan::linear {
namespace {

using Tile = matmul::MmaTile<matmul::E4m3, 128>;
constexpr int64_t kGroup = 16;  // tile rows of a rectangle of tiles that run together: 2048 rows, 6 MB of x at K = 3072

struct Params {
  hunyuan_linear_fp8_args args;
  Output output;
  matmul::TileOrder order;
};

// Addresses of the chunks that a thread copies, K step by K step.
class Rows {
 public:
  __device__ Rows(const hunyuan_linear_fp8_args& args, int first_row, int first_column)
      : args_(args), first_row_(first_row), column_(Tile::copy_chunk() * 16), columns_(args.in_columns) {
    head_ = args.x_tail ? args.head_columns : args.in_columns;
    point_x(args.x, head_);
    const auto* weight = static_cast<const uint8_t*>(args.weight);
#pragma unroll
    for (int i = 0; i < Tile::kCopiesB; ++i) {
      const int64_t row = first_column + Tile::copy_row(i);
      weight_[i] = row < args.out_columns ? weight + row * columns_ : nullptr;
    }
  }
  __device__ const void* next_a(int i) const { return column_ < columns_ && x_[i] ? x_[i] + column_ : nullptr; }
  __device__ const void* next_b(int i) const {
    return column_ < columns_ && weight_[i] ? weight_[i] + column_ : nullptr;
  }
  __device__ void advance() {
    column_ += kStepColumns;
    if (column_ < head_ || head_ == columns_) return;
    point_x(static_cast<const uint8_t*>(args_.x_tail) - head_, columns_ - head_);
    head_ = columns_;
  }

 private:
  // The rows of x from here on; column 0 is at `x`, rows are `stride` apart.
  __device__ void point_x(const void* x, int64_t stride) {
#pragma unroll
    for (int i = 0; i < Tile::kCopiesA; ++i) {
      const int64_t row = first_row_ + Tile::copy_row(i);
      x_[i] = row < args_.rows ? static_cast<const uint8_t*>(x) + row * stride : nullptr;
    }
  }

  const hunyuan_linear_fp8_args& args_;
  const int first_row_;
  const uint8_t *x_[Tile::kCopiesA], *weight_[Tile::kCopiesB];
  int64_t column_, columns_, head_;
};

struct Promotion : StepScales {
  __device__ void operator()(Tile::Accumulators& acc, const Tile::Accumulators& part, int step) const {
    const float weight_scale = weight_at(step);
#pragma unroll
    for (int m = 0; m < Tile::kRowFragments; ++m) {
      const int row = Tile::row(m) + matmul::lane_row();
      promote<matmul::kFragmentFloats>(acc[m], part[m], x_at(step, row) * weight_scale,
                                       x_at(step, row + 8) * weight_scale);
    }
  }
};

template <bool kPromote>
__global__ void __launch_bounds__(Tile::kThreads) linear_kernel(const __grid_constant__ Params params) {
  char* memory = device::dynamic_shared();
  const uint32_t shared = ptx::aligned_address(memory, ptx::kPanelBytes);
  const matmul::TileIndex tile = params.order[blockIdx.x];
  const int first_row = static_cast<int>(tile.row) * Tile::kRows,
            first_column = static_cast<int>(tile.column) * Tile::kColumns;
  const int steps = static_cast<int>(matmul::ceil_div(params.args.in_columns, kStepColumns));
  Tile::Accumulators acc;
  Rows rows(params.args, first_row, first_column);
  if constexpr (kPromote)
    Tile::run(rows, params.args.x, steps, shared, acc, Promotion{step_scales(params.args, first_row, first_column)});
  else
    Tile::run(rows, params.args.x, steps, shared, acc, matmul::NoPromotion{});
  finish_tile<Tile>(params.output, acc, first_row, first_column, reinterpret_cast<float*>(memory));
}

}  // namespace

int sm89_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  using matmul::ceil_div;
  const bool promotion = needs_promotion(args);
  const Params params{args,
                      output_of(args, promotion),
                      {ceil_div(args.rows, Tile::kRows), ceil_div(args.out_columns, Tile::kColumns), kGroup}};
  const LaunchShape shape{params.order.count(), Tile::kThreads, Tile::kSharedBytes};
  const auto stream = static_cast<cudaStream_t>(target.stream);
  return promotion ? launch("linear_fp8", shape, stream, linear_kernel<true>, params)
                   : launch("linear_fp8", shape, stream, linear_kernel<false>, params);
}

}  // namespace hunyuan::linear
