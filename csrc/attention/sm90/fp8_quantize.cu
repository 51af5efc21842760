// From bf16 to what the FP8 main loop reads, head_dim 128. Bound by memory. Only keys that are attended to enter a mean
// or a scale; what lies past them becomes zero, so a tail is as exact as the rest and may hold anything, NaN included.
//
//   keys     smoothed: their mean over tokens is subtracted first (SageAttention, arXiv 2410.02367), which changes
//   every
//            score of a row by the same amount and so no probability; one scale a tile of 128
//   queries  one scale a row; the product with the mean, for the log-sum-exp
//   values   one scale a tile of 128; transposed, keys renamed within groups of 32 (common/ptx/fragment.h)
#include "attention/schedule.h"
#include "attention/sm90/fp8_quantize.h"
#include "common/fp8.cuh"
#include "common/launch.cuh"
#include "common/ptx/fragment.h"

namespace hunyuan {
namespace {

using namespace attention;
using namespace attention::sm90;
using namespace device;

constexpr int kDim = 128, kThreads = 256;
constexpr int kCount = 8, kLanes = kDim / kCount;  // a lane holds 16 bytes of a row, 16 lanes a row
constexpr int kRowsAtOnce = kThreads / kLanes;
using Pack8 = Pack16<__nv_bfloat16>;

// Where a head of a strided tensor [batch, tokens, heads, head_dim] starts; `head` counts over all samples.
__device__ const __nv_bfloat16* head_of(const void* tensor, const int64_t (&stride)[3], int64_t head, int64_t heads) {
  return static_cast<const __nv_bfloat16*>(tensor) + head / heads * stride[0] + head % heads * stride[2];
}

__device__ void load_row(const __nv_bfloat16* from, float (&values)[kCount]) {
  const Pack8 pack = *reinterpret_cast<const Pack8*>(from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] = to_float(pack.element[i]);
}

__device__ float largest(const float (&values)[kCount], float result) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) result = fmaxf(result, fabsf(values[i]));
  return result;
}

// Sums of a chunk of keys: a block, in a fixed order.
__global__ void __launch_bounds__(kThreads)
    sum_keys_kernel(const hunyuan_attention_args args, float* sums, int chunks) {
  __shared__ float partial[kRowsAtOnce][kDim];
  const int64_t head = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
  const int keys = valid_keys(args.kv_len, static_cast<int>(head / args.heads), static_cast<int>(args.keys));
  const int lane = threadIdx.x % kLanes, row = threadIdx.x / kLanes;
  const __nv_bfloat16* k = head_of(args.k, args.k_stride, head, args.heads) + lane * kCount;
  const int64_t begin = chunk * kMeanChunk, end = begin + kMeanChunk < keys ? begin + kMeanChunk : keys;
  float total[kCount] = {};
  for (int64_t token = begin + row; token < end; token += kRowsAtOnce) {
    float values[kCount];
    load_row(k + token * args.k_stride[1], values);
#pragma unroll
    for (int i = 0; i < kCount; ++i) total[i] += values[i];
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) partial[row][lane * kCount + i] = total[i];
  __syncthreads();
  if (threadIdx.x >= kDim) return;
  float sum = 0.0f;
  for (int r = 0; r < kRowsAtOnce; ++r) sum += partial[r][threadIdx.x];
  sums[blockIdx.x * static_cast<int64_t>(kDim) + threadIdx.x] = sum;
}

// Mean key of a head: a block of head_dim threads.
__global__ void __launch_bounds__(kDim)
    mean_keys_kernel(const hunyuan_attention_args args, const float* sums, float* mean, int chunks) {
  const int64_t head = blockIdx.x;
  const int keys = valid_keys(args.kv_len, static_cast<int>(head / args.heads), static_cast<int>(args.keys));
  float sum = 0.0f;
  for (int chunk = 0; chunk < chunks; ++chunk) sum += sums[(head * chunks + chunk) * kDim + threadIdx.x];
  mean[head * kDim + threadIdx.x] = keys > 0 ? sum / static_cast<float>(keys) : 0.0f;
}

// Two rows of queries a warp.
__global__ void __launch_bounds__(kThreads)
    quantize_queries_kernel(const hunyuan_attention_args args, const float* mean, uint8_t* codes, float* scales,
                            float* lse_shift, int64_t rows) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kRowsAtOnce + threadIdx.x / kLanes;
  const int64_t row = index < rows ? index : rows - 1;  // all lanes take part in the shuffles
  const int64_t head = row / args.queries, token = row % args.queries;
  const int first = threadIdx.x % kLanes * kCount;
  float values[kCount];
  load_row(head_of(args.q, args.q_stride, head, args.heads) + token * args.q_stride[1] + first, values);
  float amax = largest(values, 0.0f), product = 0.0f;
#pragma unroll
  for (int i = 0; i < kCount; ++i) product += values[i] * mean[head * kDim + first + i];
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, offset));
    product += __shfl_xor_sync(0xffffffffu, product, offset);
  }
  if (index >= rows) return;
  const float scale = e4m3_scale(amax);
  store_e4m3<kCount>(codes + row * kDim + first, values, 1.0f / scale);
  if (first != 0) return;
  scales[row] = scale;
  lse_shift[row] = product * args.scale;
}

// A tile of keys a block: the tile stays in registers between its largest magnitude and its codes.
__global__ void __launch_bounds__(kThreads) quantize_keys_kernel(const hunyuan_attention_args args, const float* mean,
                                                                 uint8_t* codes, float* scales, int blocks) {
  constexpr int kPasses = kFp8Tile / kRowsAtOnce;
  __shared__ float scratch[32];
  const int64_t head = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int keys = valid_keys(args.kv_len, static_cast<int>(head / args.heads), static_cast<int>(args.keys));
  const int first = threadIdx.x % kLanes * kCount, row = threadIdx.x / kLanes;
  const __nv_bfloat16* k = head_of(args.k, args.k_stride, head, args.heads) + first;
  float centre[kCount], values[kPasses][kCount], amax = 0.0f;
#pragma unroll
  for (int i = 0; i < kCount; ++i) centre[i] = mean[head * kDim + first + i];
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int64_t token = block * kFp8Tile + pass * kRowsAtOnce + row;
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[pass][i] = 0.0f;
    if (token >= keys) continue;
    load_row(k + token * args.k_stride[1], values[pass]);
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[pass][i] -= centre[i];
    amax = largest(values[pass], amax);
  }
  const float scale = e4m3_scale(block_max(amax, scratch));
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
#pragma unroll
  for (int pass = 0; pass < kPasses; ++pass) {
    const int64_t token = block * kFp8Tile + pass * kRowsAtOnce + row;
    if (token < args.keys)
      store_e4m3<kCount>(codes + (head * args.keys + token) * kDim + first, values[pass], 1.0f / scale);
  }
}

// A tile of values a block, through shared memory to turn it. A thread writes 32 keys of one column at a time.
__global__ void __launch_bounds__(kThreads)
    quantize_values_kernel(const hunyuan_attention_args args, uint8_t* codes, float* scales, int blocks) {
  constexpr int kGroup = 32;  // keys that are renamed among themselves
  __shared__ float scratch[32];
  __shared__ __align__(16) __nv_bfloat16 tile[kFp8Tile][kDim + kCount];
  const int64_t head = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int keys = valid_keys(args.kv_len, static_cast<int>(head / args.heads), static_cast<int>(args.keys));
  const int first = threadIdx.x % kLanes * kCount;
  const __nv_bfloat16* v = head_of(args.v, args.v_stride, head, args.heads) + first;
  float amax = 0.0f;
  for (int row = threadIdx.x / kLanes; row < kFp8Tile; row += kRowsAtOnce) {
    const int64_t token = block * kFp8Tile + row;
    Pack8 pack{};
    if (token < keys) pack = *reinterpret_cast<const Pack8*>(v + token * args.v_stride[1]);
    *reinterpret_cast<Pack8*>(&tile[row][first]) = pack;
#pragma unroll
    for (int i = 0; i < kCount; ++i) amax = fmaxf(amax, fabsf(to_float(pack.element[i])));
  }
  // The kernel divides neighbouring scales, so they stay far from the ends of float32.
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

namespace attention::sm90 {

int quantize_fp8(const hunyuan_attention_args& args, const Fp8Workspace& w, char* workspace, cudaStream_t stream) {
  const auto floats = [workspace](int64_t offset) { return reinterpret_cast<float*>(workspace + offset); };
  const auto bytes = [workspace](int64_t offset) { return reinterpret_cast<uint8_t*>(workspace + offset); };
  const int blocks = static_cast<int>(w.blocks), chunks = static_cast<int>(w.chunks);
  const int64_t rows = w.heads * args.queries;
  int status =
      launch("attention", {w.heads * w.chunks, kThreads}, stream, sum_keys_kernel, args, floats(w.sums), chunks);
  if (status == HUNYUAN_OK)
    status =
        launch("attention", {w.heads, kDim}, stream, mean_keys_kernel, args, floats(w.sums), floats(w.mean), chunks);
  if (status == HUNYUAN_OK)
    status = launch("attention", {(rows + kRowsAtOnce - 1) / kRowsAtOnce, kThreads}, stream, quantize_queries_kernel,
                    args, floats(w.mean), bytes(w.q), floats(w.q_scale), floats(w.lse_shift), rows);
  if (status == HUNYUAN_OK)
    status = launch("attention", {w.heads * w.blocks, kThreads}, stream, quantize_keys_kernel, args, floats(w.mean),
                    bytes(w.k), floats(w.k_scale), blocks);
  if (status == HUNYUAN_OK)
    status = launch("attention", {w.heads * w.blocks, kThreads}, stream, quantize_values_kernel, args, bytes(w.v),
                    floats(w.v_scale), blocks);
  return status;
}

}  // namespace attention::sm90
}  // namespace hunyuan
