// The shipped FP8 product as a shared object, with the order of its tiles as arguments; PROMOTE 0 or 1.
#include "linear/sm90/straight_product.cuh"

namespace {
using namespace hunyuan;
using namespace hunyuan::linear;

template <End kEnd>
int run(const hunyuan_linear_fp8_args& args, int group, int sharing, hunyuan_target target) {
  using Tile = typename StraightLinear<PROMOTE, kEnd>::Tile;
  const int64_t down = matmul::ceil_div(args.rows, Tile::kRows);
  const int64_t across = matmul::ceil_div(args.out_columns, Tile::kColumns);
  matmul::PairOrder order{{down, across, group}, matmul::Sharing::kNone};
  if (sharing == 1 && across % 2 == 0) order = {{down, across / 2, group}, matmul::Sharing::kA};
  if (sharing == 2 && down > 1) order = {{matmul::ceil_div(down, 2), across, group}, matmul::Sharing::kB};
  return run_straight<PROMOTE, kEnd>(args, order, target);
}
}  // namespace

// group: tile rows (or pairs of them) of a rectangle; sharing: 0 none, 1 A, 2 B.
extern "C" __attribute__((visibility("default"))) int candidate(const hunyuan_linear_fp8_args* args, int group,
                                                                int sharing, int, int device, void* stream) {
  const hunyuan_target target{device, stream, 0};
  if (args->out_scale) return run<End::kQuantize>(*args, group, sharing, target);
  if (args->gate) return run<End::kGate>(*args, group, sharing, target);
  if (args->gelu) return run<End::kGelu>(*args, group, sharing, target);
  return run<End::kBias>(*args, group, sharing, target);
}
