// Causal convolution as an implicit matrix product on mma.sync: rows are output positions, K runs over taps and
// channels. Every 16-byte chunk of K lies in one tap (channels are a multiple of 8), so the input is gathered by
// address, without an unfolded copy. Runs on every architecture from sm_80 on; on Hopper it takes the narrow layers.
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"
#include "common/matmul/mma_tile.cuh"
#include "common/matmul/tile_order.h"
#include "conv3d/conv3d.h"
#include "conv3d/cuda/epilogue.cuh"
#include "conv3d/geometry.h"

namespace hunyuan::conv3d {
namespace {

using matmul::ceil_div;

struct Params {
  Geometry geometry;
  Output output;
  const void *x, *weight;
  int64_t tiles_per_sample, column_tiles;
};

// Addresses of the chunks that a thread copies, K step by K step.
template <class Tile>
class Gather {
 public:
  __device__ Gather(const Params& params, int64_t sample, int64_t first_position, int first_column,
                    const int64_t* tap_offsets)
      : params_(params), tap_offsets_(tap_offsets), channel_(Tile::copy_chunk() * 8) {
    const Geometry& g = params.geometry;
    const auto* x = static_cast<const uint16_t*>(params.x);
#pragma unroll
    for (int i = 0; i < Tile::kCopiesA; ++i) {
      const int64_t position = first_position + Tile::copy_row(i);
      window_[i] = position < g.positions() ? x + g.window(sample, g.position(position)) : nullptr;
    }
    const auto* weight = static_cast<const uint16_t*>(params.weight);
    const int64_t depth = g.taps() * g.channels;
#pragma unroll
    for (int i = 0; i < Tile::kCopiesB; ++i) {
      const int64_t row = first_column + Tile::copy_row(i);
      weight_[i] = row < g.out_channels ? weight + row * depth + channel_ : nullptr;
    }
    settle();
  }

  __device__ const void* next_a(int i) const { return inside() && window_[i] ? window_[i] + offset_ : nullptr; }
  __device__ const void* next_b(int i) const { return inside() ? weight_[i] : nullptr; }

  __device__ void advance() {
    channel_ += kStep;
#pragma unroll
    for (int i = 0; i < Tile::kCopiesB; ++i)
      if (weight_[i]) weight_[i] += kStep;
    settle();
  }

 private:
  static constexpr int kStep = ptx::kPanelBytes / 2;  // channels of a K step, over tap borders

  __device__ bool inside() const { return tap_ < params_.geometry.taps(); }
  __device__ void settle() {
    const int channels = static_cast<int>(params_.geometry.channels);
    while (channel_ >= channels && inside()) channel_ -= channels, ++tap_;
    if (inside()) offset_ = tap_offsets_[tap_] + channel_;
  }

  const Params& params_;
  const int64_t* tap_offsets_;
  const uint16_t* window_[Tile::kCopiesA];
  const uint16_t* weight_[Tile::kCopiesB];
  int64_t offset_ = 0;
  int channel_, tap_ = 0;
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads) conv_kernel(const __grid_constant__ Params params) {
  using T = typename Tile::Operand::Type;
  __shared__ int64_t tap_offsets[kMostTaps];
  char* memory = device::dynamic_shared();
  const uint32_t shared = ptx::aligned_address(memory, ptx::kPanelBytes);
  const Geometry& g = params.geometry;
  for (int tap = threadIdx.x; tap < g.taps(); tap += Tile::kThreads) tap_offsets[tap] = g.tap_offset(tap);
  __syncthreads();

  const int64_t index = blockIdx.x / params.column_tiles, sample = index / params.tiles_per_sample;
  const int64_t chunk = index % params.tiles_per_sample, first_position = chunk * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.x % params.column_tiles) * Tile::kColumns;
  const int steps = static_cast<int>(ceil_div(g.taps() * g.channels * 2, ptx::kPanelBytes));

  typename Tile::Accumulators acc;
  Gather<Tile> gather(params, sample, first_position, first_column, tap_offsets);
  Tile::run(gather, params.x, steps, shared, acc, matmul::NoPromotion{});

  const int64_t left = g.positions() - first_position;
  const int rows = left < Tile::kRows ? static_cast<int>(left) : Tile::kRows;
  bool present[Tile::kRowFragments][2];
#pragma unroll
  for (int m = 0; m < Tile::kRowFragments; ++m) {
    int64_t offset[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = Tile::row(m) + matmul::lane_row() + half * 8;
      present[m][half] = row < rows;
      offset[half] = row < rows ? g.output(sample, first_position + row) : -1;
    }
    finish_row<T, Tile>(params.output, acc[m], offset, first_column);
  }
  if (params.output.moments)
    store_moments<Tile>(params.output, acc, present, rows, first_column, reinterpret_cast<float*>(memory),
                        params.output.moments + (sample * params.tiles_per_sample + chunk) * params.output.groups);
}

template <class Tile>
int launch_tile(Params& params, cudaStream_t stream) {
  static_assert(kMomentFloats<Tile> * sizeof(float) <= Tile::kSharedBytes, "the moments reuse the operands' memory");
  params.tiles_per_sample = ceil_div(params.geometry.positions(), Tile::kRows);
  params.column_tiles = ceil_div(params.geometry.out_channels, Tile::kColumns);
  const LaunchShape shape{params.geometry.batch * params.tiles_per_sample * params.column_tiles, Tile::kThreads,
                          Tile::kSharedBytes};
  return launch("causal_conv3d", shape, stream, conv_kernel<Tile>, params);
}

// Tile width by output channels. 128 columns: 64 x 32 accumulators a warp, the most that leaves two warps a scheduler.
// 32 columns: the convolution to 3 channels, which would waste 125 of 128.
template <class Operand>
int launch_operand(Params& params, cudaStream_t stream) {
  return params.geometry.out_channels <= 32 ? launch_tile<matmul::MmaTile<Operand, 32>>(params, stream)
                                            : launch_tile<matmul::MmaTile<Operand, 128>>(params, stream);
}

}  // namespace

int64_t mma_moment_chunks(const hunyuan_causal_conv3d_args& args) {
  return ceil_div(geometry_of(args).positions(), matmul::MmaTile<matmul::Bf16, 128>::kRows);
}

int mma_causal_conv3d(const hunyuan_causal_conv3d_args& args, hunyuan_target target) {
  Params params{geometry_of(args), output_of(args), args.x, args.weight, 0, 0};
  const auto stream = static_cast<cudaStream_t>(target.stream);
  return args.dtype == HUNYUAN_BF16 ? launch_operand<matmul::Bf16>(params, stream)
                                    : launch_operand<matmul::F16>(params, stream);
}

}  // namespace hunyuan::conv3d
