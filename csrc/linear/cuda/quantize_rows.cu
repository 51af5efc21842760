// Dynamic quantization to float8_e4m3fn: a scale a row, or one for every 128 columns of a row. One read, half a write.
#include "common/cuda/cuda.cuh"
#include "common/cuda/fp8.cuh"
#include "common/cuda/launch.cuh"
#include "linear/linear.h"

namespace hunyuan {
namespace {

using namespace device;
using Args = hunyuan_quantize_rows_args;

constexpr int kPacks = 4;  // of 8 values, kept in registers by each thread between the two passes over its row

template <class T>
__device__ void load8(const T* x, float (&values)[8]) {
  constexpr int kCount = Pack16<T>::count;
#pragma unroll
  for (int p = 0; p < 8 / kCount; ++p) {
    const auto pack = reinterpret_cast<const Pack16<T>*>(x)[p];
#pragma unroll
    for (int e = 0; e < kCount; ++e) values[p * kCount + e] = to_float(pack.element[e]);
  }
}

__device__ inline float largest(const float (&values)[8], float amax) {
#pragma unroll
  for (int e = 0; e < 8; ++e) amax = fmaxf(amax, fabsf(values[e]));
  return amax;
}

// One block a row.
template <class T>
__global__ void __launch_bounds__(1024) quantize_rows_kernel(const Args args) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(args.x) + row * args.x_row_stride;
  const int packs = static_cast<int>(args.columns / 8), step = blockDim.x;
  float values[kPacks][8], amax = 0.0f;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int i = threadIdx.x + k * step;
    if (i < packs) load8(x + static_cast<int64_t>(i) * 8, values[k]);
  }
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    if (static_cast<int>(threadIdx.x) + k * step < packs) amax = largest(values[k], amax);
  const float scale = e4m3_scale(block_max(amax, scratch)), inverse = 1.0f / scale;
  if (threadIdx.x == 0) args.scale[row] = scale;
  uint8_t* out = static_cast<uint8_t*>(args.out) + row * args.columns;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int i = threadIdx.x + k * step;
    if (i < packs) store_e4m3<8>(out + static_cast<int64_t>(i) * 8, values[k], inverse);
  }
}

constexpr int kBlock = 128, kBlockThreads = 256;
constexpr int kLanes = kBlock / 8;  // threads of a block of columns: half a warp

// Half a warp 128 columns of a row.
template <class T>
__global__ void __launch_bounds__(kBlockThreads) quantize_blocks_kernel(const Args args, int64_t blocks_per_row) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (kBlockThreads / kLanes) + threadIdx.x / kLanes;
  const int64_t row = index / blocks_per_row, block = index % blocks_per_row;
  const int64_t column = block * kBlock + threadIdx.x % kLanes * 8;
  const bool present = row < args.rows && column < args.columns;
  float values[8] = {};
  if (present) load8(static_cast<const T*>(args.x) + row * args.x_row_stride + column, values);
  float amax = largest(values, 0.0f);
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, lanes));
  const float scale = e4m3_scale(amax);
  if (!present) return;
  if (threadIdx.x % kLanes == 0) args.scale[block * args.rows + row] = scale;
  store_e4m3<8>(static_cast<uint8_t*>(args.out) + row * args.columns + column, values, 1.0f / scale);
}

template <class T>
int launch_dtype(const Args& args, cudaStream_t stream) {
  if (args.columns % 8 != 0 || !aligned16<T>(args.x, args.x_row_stride) ||
      reinterpret_cast<uintptr_t>(args.out) % 8 != 0)
    return fail(HUNYUAN_BAD_ARGUMENT,
                "quantize_rows: columns must be a multiple of 8, rows of x must start at multiples of 16 bytes");
  if (args.block == kBlock) {
    const int64_t blocks_per_row = (args.columns + kBlock - 1) / kBlock, per_launch = kBlockThreads / kLanes;
    const LaunchShape shape{(args.rows * blocks_per_row + per_launch - 1) / per_launch, kBlockThreads};
    return launch("quantize_rows", shape, stream, quantize_blocks_kernel<T>, args, blocks_per_row);
  }
  const int64_t wanted = threads_of_row(args.columns / 8, kPacks);
  if (args.block != 0 || wanted > 1024)
    return fail(HUNYUAN_BAD_ARGUMENT, "quantize_rows: %lld columns with blocks of %lld are not supported",
                static_cast<long long>(args.columns), static_cast<long long>(args.block));
  const LaunchShape shape{args.rows, static_cast<unsigned>(wanted)};
  return launch("quantize_rows", shape, stream, quantize_rows_kernel<T>, args);
}

}  // namespace

int quantize_rows_cuda(const Args& args, hunyuan_target target) {
  return for_dtype("quantize_rows", args.dtype, target, [&args](auto element, cudaStream_t stream) {
    return launch_dtype<decltype(element)>(args, stream);
  });
}

}  // namespace hunyuan
