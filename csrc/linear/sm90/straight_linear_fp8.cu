// FP8 product in tiles of 256 x 128 that end with straight code, of which the blocks of a cluster share the rows of x.
#include "linear/sm90/products.h"
#include "linear/sm90/straight_product.cuh"

namespace hunyuan::linear {
namespace {

constexpr int64_t kGroup = 8;  // tile rows of a rectangle of tiles that run together: 2048 rows, 6 MB of x at K = 3072

template <bool kPromote>
int run(const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  using Tile = typename StraightLinear<kPromote, End::kBias>::Tile;
  const matmul::PairOrder order = matmul::pair_order(matmul::ceil_div(args.rows, Tile::kRows),
                                                     matmul::ceil_div(args.out_columns, Tile::kColumns), kGroup);
  switch (end_of(args)) {
    case End::kBias:
      return run_straight<kPromote, End::kBias>(args, order, target);
    case End::kGelu:
      return run_straight<kPromote, End::kGelu>(args, order, target);
    case End::kGate:
      return run_straight<kPromote, End::kGate>(args, order, target);
    default:
      return run_straight<kPromote, End::kQuantize>(args, order, target);
  }
}

}  // namespace

int sm90_straight_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  return needs_promotion(args) ? run<true>(args, target) : run<false>(args, target);
}

}  // namespace hunyuan::linear
