// RMSNorm and rotary embedding that write e4m3 codes with scales, what the FP8 main loop reads; head_dim 128.
//
//   queries  one scale a row; the product with the mean key, for the log-sum-exp
//   keys     smoothed: their mean over tokens is subtracted (SageAttention, arXiv 2410.02367), which changes every
//   score
//            of a row by the same amount and so no probability; one scale a tile of 128
//
// The mean is of normalized, turned keys, so a first pass reads the keys alone: sums of 128 keys a block, then one
// block a head adds them up, in a fixed order. Bound by memory: q once, k twice, codes once; no bf16 q or k is ever
// written. A block takes 128 tokens and keeps their rows of the table in shared memory while it walks over eight heads.
// Keys that are not attended to enter neither mean nor scale and become zero, so they may hold anything, NaN included.
#include "attention/cuda/norm_rope.cuh"
#include "attention/schedule.h"
#include "attention/sm90/fp8.h"
#include "common/cuda/fp8.cuh"
#include "common/cuda/launch.cuh"

namespace hunyuan::attention::sm90 {
namespace {

using namespace device;

constexpr int kDim = 128, kThreads = 512;
constexpr int kCount = 8, kLanes = kDim / kCount;  // a lane holds 16 bytes of a row, 16 lanes a row
constexpr int kRowsAtOnce = kThreads / kLanes, kPasses = kFp8Tile / kRowsAtOnce;
constexpr int kHeadsPerBlock = 8;
constexpr int kMeanThreads = 1024, kSlices = kMeanThreads / kDim;
using Pack8 = Pack16<__nv_bfloat16>;

// A row of head_dim floats in shared memory: half of a lane's eight entries at [half][lane], so that neighboring lanes
// read neighboring addresses.
struct Row {
  float4 half[2][kLanes];

  __device__ void load(int lane, float (&values)[kCount]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) *reinterpret_cast<float4*>(values + 4 * h) = half[h][lane];
  }
};

// In shared memory: rows of the tables of a tile of tokens, and the weights of q and k, for video and for text.
struct Tables {
  Row cos[kFp8Tile], sin[kFp8Tile], weight[2][2];
};

// The bf16 rows of 128 tokens, head by head, normalized and turned on their way into registers.
class TokenTile {
 public:
  __device__ TokenTile(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before)
      : args_(args), before_(before), tables_(*reinterpret_cast<Tables*>(dynamic_shared())) {
    const int groups = ceil_div(static_cast<int>(args.heads), kHeadsPerBlock);
    const int tokens = static_cast<int>(args.queries > args.keys ? args.queries : args.keys);
    const int tiles = ceil_div(tokens, kFp8Tile), index = blockIdx.x / groups;
    sample = index / tiles, tile = index % tiles;
    first_head = static_cast<int>(blockIdx.x) % groups * kHeadsPerBlock;
    end_head = first_head + kHeadsPerBlock < args.heads ? first_head + kHeadsPerBlock : static_cast<int>(args.heads);
    keys = valid_keys(args.kv_len, sample, static_cast<int>(args.keys));
    video_ = tokens - static_cast<int>(before.text_tokens);
    stage();
  }

  int sample, tile, first_head, end_head, keys;  // keys: that are attended to

  __device__ static int lane() { return threadIdx.x % kLanes; }
  __device__ static int row(int pass) { return pass * kRowsAtOnce + threadIdx.x / kLanes; }
  __device__ int64_t token(int pass) const { return static_cast<int64_t>(tile) * kFp8Tile + row(pass); }
  __device__ int64_t head_of_all(int head) const { return sample * args_.heads + head; }

  // This lane's parts of the rows of a head of `x`; zeros from token `end` on.
  __device__ void load(const void* x, const int64_t (&stride)[3], int head, int64_t end,
                       Pack8 (&packs)[kPasses]) const {
    const auto* from = static_cast<const __nv_bfloat16*>(x) + sample * stride[0] + head * stride[2] + lane() * kCount;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      packs[pass] = Pack8{};
      if (token(pass) < end) packs[pass] = *reinterpret_cast<const Pack8*>(from + token(pass) * stride[1]);
    }
  }

  // Norm and rotation of one row of q (`kind` 0) or k (1); all lanes of a warp take part.
  __device__ void prepare(const Pack8& pack, int kind, int pass, float (&y)[kCount]) const {
    const int text = token(pass) >= video_;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] = to_float(pack.element[i]), squares += y[i] * y[i];
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, lanes);
    const float inverse = weights(kind, text) ? rsqrtf(squares * (1.0f / kDim) + before_.eps) : 1.0f;
    alignas(16) float weight[kCount], cos[kCount], sin[kCount];
    tables_.weight[kind][text].load(lane(), weight);
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] *= inverse * weight[i];
    tables_.cos[row(pass)].load(lane(), cos);
    tables_.sin[row(pass)].load(lane(), sin);
    rotate(y, cos, sin);
  }

 private:
  __device__ const void* weights(int kind, int text) const {
    return text && before_.text_norm[kind] ? before_.text_norm[kind] : before_.norm[kind];
  }

  // Tokens that are not turned get cosines of 1 and sines of 0.
  __device__ void stage() {
    for (int i = threadIdx.x; i < kFp8Tile * 2 * kLanes; i += kThreads) {
      const int row = i / (2 * kLanes), part = i % (2 * kLanes);
      const int64_t token = static_cast<int64_t>(tile) * kFp8Tile + row;
      float4 cos = make_float4(1.0f, 1.0f, 1.0f, 1.0f), sin = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (before_.cos && token < video_) {
        cos = *reinterpret_cast<const float4*>(before_.cos + token * before_.cos_stride + 4 * part);
        sin = *reinterpret_cast<const float4*>(before_.sin + token * before_.sin_stride + 4 * part);
      }
      tables_.cos[row].half[part % 2][part / 2] = cos, tables_.sin[row].half[part % 2][part / 2] = sin;
    }
    if (threadIdx.x < 2 * 2 * kLanes) {
      const int kind = threadIdx.x / (2 * kLanes), text = threadIdx.x / kLanes % 2;
      float values[kCount];
      load_weights(weights(kind, text), before_.norm_dtype, lane() * kCount, values);
#pragma unroll
      for (int h = 0; h < 2; ++h)
        tables_.weight[kind][text].half[h][lane()] = *reinterpret_cast<const float4*>(values + 4 * h);
    }
    __syncthreads();
  }

  const hunyuan_attention_args& args_;
  const hunyuan_norm_rope_args& before_;
  Tables& tables_;
  int video_;
};

__device__ float largest(const float (&values)[kCount], float result) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) result = fmaxf(result, fabsf(values[i]));
  return result;
}

// This lane's part of a mean key in memory.
__device__ void load_mean(const float* mean, float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4)
    *reinterpret_cast<float4*>(values + i) = *reinterpret_cast<const float4*>(mean + TokenTile::lane() * kCount + i);
}

// Sums of the prepared keys of each tile and head.
__global__ void __launch_bounds__(kThreads)
    sum_keys_kernel(const __grid_constant__ hunyuan_attention_args args,
                    const __grid_constant__ hunyuan_norm_rope_args before, float* sums, int blocks) {
  __shared__ float partial[kRowsAtOnce][kDim];
  const TokenTile tile(args, before);
  if (tile.tile >= blocks) return;  // more queries than keys
  Pack8 packs[kPasses];
  tile.load(args.k, args.k_stride, tile.first_head, tile.keys, packs);
  for (int head = tile.first_head; head < tile.end_head; ++head) {
    float total[kCount] = {};
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      float y[kCount];
      tile.prepare(packs[pass], 1, pass, y);
#pragma unroll
      for (int i = 0; i < kCount; ++i) total[i] += y[i];
    }
    if (head + 1 < tile.end_head) tile.load(args.k, args.k_stride, head + 1, tile.keys, packs);
#pragma unroll
    for (int i = 0; i < kCount; ++i) partial[tile.row(0)][tile.lane() * kCount + i] = total[i];
    __syncthreads();
    if (threadIdx.x < kDim) {
      float sum = 0.0f;
#pragma unroll 8
      for (int row = 0; row < kRowsAtOnce; ++row) sum += partial[row][threadIdx.x];
      sums[(tile.head_of_all(head) * blocks + tile.tile) * kDim + threadIdx.x] = sum;
    }
    __syncthreads();
  }
}

// Mean key of a head, a block each: slices of the tiles side by side, then the slices.
__global__ void __launch_bounds__(kMeanThreads)
    mean_keys_kernel(const hunyuan_attention_args args, const float* sums, float* mean, int blocks) {
  __shared__ float partial[kSlices][kDim];
  const int64_t head = blockIdx.x;
  const int keys = valid_keys(args.kv_len, static_cast<int>(head / args.heads), static_cast<int>(args.keys));
  const int column = threadIdx.x % kDim, slice = threadIdx.x / kDim;
  float sum = 0.0f;
#pragma unroll 8
  for (int block = slice; block < blocks; block += kSlices) sum += sums[(head * blocks + block) * kDim + column];
  partial[slice][column] = sum;
  __syncthreads();
  if (slice > 0) return;
  for (int other = 1; other < kSlices; ++other) sum += partial[other][column];
  mean[head * kDim + column] = keys > 0 ? sum / static_cast<float>(keys) : 0.0f;
}

struct Outputs {
  uint8_t *q, *k;            // codes
  float *q_scale, *k_scale;  // of each row, of each tile
  float* lse_shift;
  const float* mean;
  int blocks;
};

// Codes, scale and shift of one row of queries: half a warp.
__device__ void store_query(const hunyuan_attention_args& args, const Outputs& out, int64_t row, bool present,
                            const float (&y)[kCount], const float* mean) {
  float center[kCount], amax = largest(y, 0.0f), product = 0.0f;
  load_mean(mean, center);
#pragma unroll
  for (int i = 0; i < kCount; ++i) product += y[i] * center[i];
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
    amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, lanes));
    product += __shfl_xor_sync(0xffffffffu, product, lanes);
  }
  if (!present) return;
  const float scale = e4m3_scale(amax);
  store_e4m3<kCount>(out.q + row * kDim + TokenTile::lane() * kCount, y, 1.0f / scale);
  if (TokenTile::lane() != 0) return;
  out.q_scale[row] = scale;
  out.lse_shift[row] = product * args.scale;
}

// q and k of a tile of tokens, head by head. Loads run ahead: the next queries are on their way while keys are reduced
// and stored, the next keys while queries are computed.
__global__ void __launch_bounds__(kThreads)
    norm_rope_quantize_kernel(const __grid_constant__ hunyuan_attention_args args,
                              const __grid_constant__ hunyuan_norm_rope_args before, const Outputs out) {
  __shared__ float scratch[32];
  const TokenTile tile(args, before);
  Pack8 query[kPasses], key[kPasses];
  tile.load(args.q, args.q_stride, tile.first_head, args.queries, query);
  for (int head = tile.first_head; head < tile.end_head; ++head) {
    const int64_t index = tile.head_of_all(head);
    float keys[kPasses][kCount], amax = 0.0f;
    tile.load(args.k, args.k_stride, head, tile.keys, key);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      float queries[kCount];
      tile.prepare(query[pass], 0, pass, queries);
      const int64_t token = tile.token(pass);
      store_query(args, out, index * args.queries + token, token < args.queries, queries, out.mean + index * kDim);
    }
    if (head + 1 < tile.end_head) tile.load(args.q, args.q_stride, head + 1, args.queries, query);
    float center[kCount];
    load_mean(out.mean + index * kDim, center);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      tile.prepare(key[pass], 1, pass, keys[pass]);
#pragma unroll
      for (int i = 0; i < kCount; ++i) keys[pass][i] = tile.token(pass) < tile.keys ? keys[pass][i] - center[i] : 0.0f;
      amax = largest(keys[pass], amax);
    }
    const float scale = e4m3_scale(block_max(amax, scratch)), inverse = 1.0f / scale;
    if (threadIdx.x == 0 && tile.tile < out.blocks) out.k_scale[index * out.blocks + tile.tile] = scale;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass)
      if (tile.token(pass) < args.keys)
        store_e4m3<kCount>(out.k + (index * args.keys + tile.token(pass)) * kDim + tile.lane() * kCount, keys[pass],
                           inverse);
  }
}

}  // namespace

int norm_rope_quantize(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before, const Fp8Workspace& w,
                       char* workspace, hunyuan_target target) {
  const auto stream = static_cast<cudaStream_t>(target.stream);
  const auto floats = [workspace](int64_t offset) { return reinterpret_cast<float*>(workspace + offset); };
  const auto codes = [workspace](int64_t offset) { return reinterpret_cast<uint8_t*>(workspace + offset); };
  const int64_t tokens = args.queries > args.keys ? args.queries : args.keys;
  const int64_t tiles = (tokens + kFp8Tile - 1) / kFp8Tile, groups = (args.heads + kHeadsPerBlock - 1) / kHeadsPerBlock;
  const LaunchShape shape{args.batch * tiles * groups, kThreads, sizeof(Tables)};
  const int blocks = static_cast<int>(w.blocks);
  int status = launch("attention", shape, stream, sum_keys_kernel, args, before, floats(w.sums), blocks);
  if (status == HUNYUAN_OK)
    status = launch("attention", {w.heads, kMeanThreads}, stream, mean_keys_kernel, args, floats(w.sums),
                    floats(w.mean), blocks);
  const Outputs out{codes(w.q),     codes(w.k), floats(w.q_scale), floats(w.k_scale), floats(w.lse_shift),
                    floats(w.mean), blocks};
  if (status == HUNYUAN_OK) status = launch("attention", shape, stream, norm_rope_quantize_kernel, args, before, out);
  return status;
}

}  // namespace hunyuan::attention::sm90
