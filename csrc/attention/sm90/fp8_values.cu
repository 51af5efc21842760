// From bf16 values to what the FP8 main loop reads, head_dim 128: a scale a tile of 128 keys, transposed, keys renamed
// within groups of 32 (common/ptx/fragment.h). One read, half a write. Values that are not attended to enter no scale
// and become zero, so a tail is as exact as the rest and may hold anything, NaN included.
#include "attention/schedule.h"
#include "attention/sm90/fp8.h"
#include "common/cuda/fp8.cuh"
#include "common/cuda/launch.cuh"
#include "common/ptx/fragment.h"

namespace hunyuan::attention::sm90 {
namespace {

using namespace device;

constexpr int kDim = 128, kThreads = 256;
constexpr int kCount = 8, kLanes = kDim / kCount;  // a lane holds 16 bytes of a row, 16 lanes a row
constexpr int kRowsAtOnce = kThreads / kLanes;
using Pack8 = Pack16<__nv_bfloat16>;

// A tile of values a block, through shared memory to turn it. A thread writes 32 keys of one column at a time.
__global__ void __launch_bounds__(kThreads)
    quantize_values_kernel(const hunyuan_attention_args args, uint8_t* codes, float* scales, int blocks) {
  constexpr int kGroup = 32;  // keys that are renamed among themselves
  __shared__ float scratch[32];
  __shared__ __align__(16) __nv_bfloat16 tile[kFp8Tile][kDim + kCount];
  const int64_t head = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int keys = valid_keys(args.kv_len, static_cast<int>(head / args.heads), static_cast<int>(args.keys));
  const int first = threadIdx.x % kLanes * kCount;
  const auto* v = static_cast<const __nv_bfloat16*>(args.v) + head / args.heads * args.v_stride[0] +
                  head % args.heads * args.v_stride[2] + first;
  float amax = 0.0f;
  for (int row = threadIdx.x / kLanes; row < kFp8Tile; row += kRowsAtOnce) {
    const int64_t token = block * kFp8Tile + row;
    Pack8 pack{};
    if (token < keys) pack = *reinterpret_cast<const Pack8*>(v + token * args.v_stride[1]);
    *reinterpret_cast<Pack8*>(&tile[row][first]) = pack;
#pragma unroll
    for (int i = 0; i < kCount; ++i) amax = fmaxf(amax, fabsf(to_float(pack.element[i])));
  }
  // The kernel divides neighboring scales, so they stay far from the ends of float32.
  const float scale = fmaxf(e4m3_scale(block_max(amax, scratch)), 1e-20f);  // block_max: also the barrier for the tile
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  const float inverse = 1.0f / scale;
  for (int i = threadIdx.x; i < kDim * kFp8Tile / kGroup; i += kThreads) {
    const int column = i % kDim, group = i / kDim * kGroup;
    uint8_t* to = codes + (head * kDim + column) * (static_cast<int64_t>(blocks) * kFp8Tile) + block * kFp8Tile + group;
#pragma unroll
    for (int p = 0; p < kGroup; p += kCount) {
      float values[kCount];
#pragma unroll
      for (int e = 0; e < kCount; ++e) values[e] = to_float(tile[group + ptx::key_of_position(p + e)][column]);
      store_e4m3<kCount>(to + p, values, inverse);
    }
  }
}

}  // namespace

int quantize_values(const hunyuan_attention_args& args, const Fp8Workspace& w, char* workspace, hunyuan_target target) {
  const auto stream = static_cast<cudaStream_t>(target.stream);
  return launch("attention", {w.heads * w.blocks, kThreads}, stream, quantize_values_kernel, args,
                reinterpret_cast<uint8_t*>(workspace + w.v), reinterpret_cast<float*>(workspace + w.v_scale),
                static_cast<int>(w.blocks));
}

}  // namespace hunyuan::attention::sm90
