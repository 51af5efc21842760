// E4M3 weight times up to 16 rows of bfloat16: modulation, time embeddings. The weight is what takes time, so it is
// read once, 16 bytes a lane, decoded to bfloat16 in registers, and is the A operand of mma.sync; x is B, from the
// first-level cache, and is not quantized. The warps of a block share K and add up in a fixed order: the same bits
// always.
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"
#include "common/ptx/fragment.h"
#include "common/ptx/global_memory.cuh"
#include "common/ptx/math.cuh"
#include "common/ptx/mma.cuh"
#include "linear/cuda/gelu.cuh"
#include "linear/linear.h"

namespace hunyuan {
namespace {

using Args = hunyuan_linear_few_rows_args;
using device::to_float;

constexpr int kHalf = 64;            // columns of K of four products of 16 x 8 x 16
constexpr int kSegment = 2 * kHalf;  // of a step of a warp: whole cache lines of the weight
constexpr int kPerLane = 16;         // columns of a half in a lane: 16 codes, 32 bytes of x
constexpr int kOutputs = 16;         // of a weight tile: the A operand's rows

// Codes of a lane for a step: rows r and r + 8 of a weight tile, two halves.
struct Codes {
  uint4 half[2][2];
};

// Within a half K is renamed: lane q of a quad holds columns 16 q to 16 q + 15, and product j takes 16 q + 4 j to
// 16 q + 4 j + 3 of each lane. x follows the same names, so sums over K are the same, and no lane moves data.
template <int kRows_, int kWarps_, int kAhead_, int kBlocks_>
struct FewRows {
  static constexpr int kRows = kRows_, kWarps = kWarps_, kThreads = kWarps * 32, kRowTiles = kRows / 8;
  static constexpr int kAhead = kAhead_;       // steps of a warp whose weights are on their way: 2 KB each
  static constexpr int kBlocks = kBlocks_;     // of a multiprocessor
  static constexpr int kPitch = kOutputs + 1;  // of sums in shared memory: rows in different banks
  static constexpr int kSums = kWarps * kRows * kPitch;

  const Args& args;
  const int tiles = static_cast<int>((args.out_columns + kOutputs - 1) / kOutputs);
  const int steps = static_cast<int>((args.in_columns + kSegment * kWarps - 1) / (kSegment * kWarps));
  const int warp = threadIdx.x / 32, row_of_quad = threadIdx.x % 32 / 4, quad = threadIdx.x % 4;

  __device__ int column_of(int step, int half) const {
    return (step * kWarps + warp) * kSegment + half * kHalf + quad * kPerLane;
  }

  // Zeros past K and past the last tile; rows past N repeat the last one.
  __device__ void load_weight(Codes& codes, int tile, int step) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int64_t row = static_cast<int64_t>(tile) * kOutputs + i * 8 + row_of_quad;
      row = row < args.out_columns ? row : args.out_columns - 1;
      const uint8_t* from = static_cast<const uint8_t*>(args.weight) + row * args.in_columns;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int k = column_of(step, half);
        const bool present = tile < tiles && k < args.in_columns;
        codes.half[half][i] = present ? ptx::load_once16(from + k) : make_uint4(0, 0, 0, 0);
      }
    }
  }

  __device__ void load_x(uint4 (&x)[2], int row_tile, int k) const {
    const int row = row_tile * 8 + row_of_quad;
    x[0] = x[1] = make_uint4(0, 0, 0, 0);
    if (row >= args.rows || k >= args.in_columns) return;
    const auto* from =
        reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(args.x) + row * args.x_row_stride + k);
    x[0] = __ldg(from), x[1] = __ldg(from + 1);
  }

  // Tiles blockIdx.x, blockIdx.x + gridDim.x and so on; the weights of the next are on their way while one is finished.
  __device__ void run(float* sums) const {
    float d[kRowTiles][4] = {};
    Codes codes[kAhead];
    int tile = blockIdx.x, step = 0, next_tile = tile, next_step = 0, buffer = 0;
    const auto fetch = [&](Codes& slot) {
      load_weight(slot, next_tile, next_step);
      if (++next_step == steps) next_step = 0, next_tile += gridDim.x;
    };
#pragma unroll
    for (int slot = 0; slot < kAhead; ++slot) fetch(codes[slot]);
    while (true) {
#pragma unroll
      for (int slot = 0; slot < kAhead; ++slot) {
        if (tile >= tiles) return;
        multiply(d, codes[slot], step, [&] { fetch(codes[slot]); });
        if (++step < steps) continue;
        finish(d, sums + buffer * kSums, tile);
#pragma unroll
        for (int i = 0; i < kRowTiles * 4; ++i) d[i / 4][i % 4] = 0.0f;
        step = 0, tile += gridDim.x, buffer ^= 1;
      }
    }
  }

  // `decoded` is called when the codes are not needed any more.
  template <class Decoded>
  __device__ void multiply(float (&d)[kRowTiles][4], const Codes& codes, int step, const Decoded& decoded) const {
    uint32_t operand[2][4][4];
    decode(codes.half[0], operand[0]);
    decode(codes.half[1], operand[1]);
    decoded();
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        uint4 x[2];
        load_x(x, tile, column_of(step, half));
        const uint32_t b[4][2] = {{x[0].x, x[0].y}, {x[0].z, x[0].w}, {x[1].x, x[1].y}, {x[1].z, x[1].w}};
#pragma unroll
        for (int j = 0; j < 4; ++j) ptx::mma_bf16(d[tile], operand[half][j], b[j]);
      }
  }

  // Adds up the warps' sums, two buffers of which serve in turn, so that one barrier a tile is enough.
  __device__ void finish(const float (&d)[kRowTiles][4], float* sums, int tile) const {
#pragma unroll
    for (int row_tile = 0; row_tile < kRowTiles; ++row_tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = ptx::accumulator_row(threadIdx.x % 32, i);
        const int row = row_tile * 8 + ptx::accumulator_column(threadIdx.x % 32, i);
        sums[(warp * kRows + row) * kPitch + column] = d[row_tile][i];
      }
    __syncthreads();
    for (int i = threadIdx.x; i < kRows * kOutputs; i += kThreads)
      store(sums, i / kOutputs, i % kOutputs, static_cast<int64_t>(tile) * kOutputs + i % kOutputs);
  }

  // The A operand of four products from 16 codes of two rows.
  __device__ static void decode(const uint4 (&codes)[2], uint32_t (&operand)[4][4]) {
    const uint32_t words[2][4] = {{codes[0].x, codes[0].y, codes[0].z, codes[0].w},
                                  {codes[1].x, codes[1].y, codes[1].z, codes[1].w}};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      ptx::e4m3_to_bf16(words[0][j], operand[j][0], operand[j][2]);
      ptx::e4m3_to_bf16(words[1][j], operand[j][1], operand[j][3]);
    }
  }

  // residual + gate * act(sum * scale + bias) of one element.
  __device__ void store(const float* sums, int row, int column_in_tile, int64_t column) const {
    if (row >= args.rows || column >= args.out_columns) return;
    const auto at = [](const void* values, int64_t i) {
      return to_float(static_cast<const __nv_bfloat16*>(values)[i]);
    };
    float value = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) value += sums[(w * kRows + row) * kPitch + column_in_tile];
    value = fmaf(value, args.weight_scale[args.scale_per_row ? column : 0], args.bias ? at(args.bias, column) : 0.0f);
    if (args.gelu) value = linear::gelu_tanh(value);
    if (args.gate) value *= at(args.gate, row / args.tokens * args.gate_stride + column);
    const int64_t i = row * args.out_columns + column;
    if (args.residual) value += at(args.residual, i);
    static_cast<__nv_bfloat16*>(args.out)[i] = __float2bfloat16_rn(value);
  }
};

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kBlocks) few_rows_kernel(const Args args) {
  __shared__ float sums[2 * Kernel::kSums];
  Kernel{args}.run(sums);
}

template <class Kernel>
int start(const Args& args, int processors, cudaStream_t stream) {
  const int64_t tiles = (args.out_columns + kOutputs - 1) / kOutputs, most = int64_t{processors} * Kernel::kBlocks;
  const int64_t each = (tiles + most - 1) / most;  // tiles of a block, as equal as possible
  const LaunchShape shape{(tiles + each - 1) / each, Kernel::kThreads};
  return launch("linear_few_rows", shape, stream, few_rows_kernel<Kernel>, args);
}

// Measured on an H200 (docs/kernels/fp8_linear.md). A weight with few tiles needs more warps for each, so that enough
// of it is on its way; one with many is faster with fewer blocks, each of which has several.
template <int kRows>
using Narrow = FewRows<kRows, 8, kRows == 8 ? 2 : 3, kRows == 8 ? 3 : 2>;
template <int kRows>
using Middle = FewRows<kRows, 4, 2, 6>;
template <int kRows>
using Wide = FewRows<kRows, 4, 3, 4>;

template <int kRows>
int start_for_width(const Args& args, int processors, cudaStream_t stream) {
  const int64_t tiles = (args.out_columns + kOutputs - 1) / kOutputs;
  if (tiles < 2 * processors) return start<Narrow<kRows>>(args, processors, stream);
  if (tiles <= Middle<kRows>::kBlocks * processors) return start<Middle<kRows>>(args, processors, stream);
  return start<Wide<kRows>>(args, processors, stream);
}

}  // namespace

int linear_few_rows_cuda(const Args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  const auto stream = static_cast<cudaStream_t>(target.stream);
  int processors = 0;
  const LaunchShape one{1, Wide<8>::kThreads};
  if (const int status = resident_blocks("linear_few_rows", one, target.device, few_rows_kernel<Wide<8>>, &processors))
    return status;
  return args.rows <= 8 ? start_for_width<8>(args, processors, stream) : start_for_width<16>(args, processors, stream);
}

}  // namespace hunyuan
