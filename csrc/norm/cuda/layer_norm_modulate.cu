// LayerNorm + modulation: one block a row, the row in registers between the passes, float32 statistics.
// Bound by memory: each element of x is read once and written once, 16 bytes at a time. With out_scale the result is
// float8_e4m3fn with a scale a row, what the FP8 matrix product reads: half the bytes written and no quantization pass.
#include "common/cuda/cuda.cuh"
#include "common/cuda/fp8.cuh"
#include "common/cuda/launch.cuh"
#include "norm/norm.h"

namespace hunyuan {
namespace {

using namespace device;

// Packs a thread keeps in registers: enough for rows of 16384 two-byte channels with 1024 threads.
template <int kCount>
constexpr int kPacksPerThread = kCount == 1 ? 16 : 4;

template <class T, int kCount, bool kQuantized>
__global__ void __launch_bounds__(1024) modulate_kernel(const hunyuan_layer_norm_modulate_args args) {
  using P = Pack<T, kCount>;
  constexpr int kPacks = kPacksPerThread<kCount>;
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x, b = row / args.tokens, s = row % args.tokens;
  const auto* x =
      reinterpret_cast<const P*>(static_cast<const T*>(args.x) + b * args.x_batch_stride + s * args.x_token_stride);
  const auto* shift = reinterpret_cast<const P*>(static_cast<const T*>(args.shift) + b * args.shift_batch_stride);
  const auto* scale = reinterpret_cast<const P*>(static_cast<const T*>(args.scale) + b * args.scale_batch_stride);
  const int packs = static_cast<int>(args.channels / kCount), step = blockDim.x;

  P kept[kPacks];
  float total = 0.0f;
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    if (threadIdx.x + k * step < packs) kept[k] = x[threadIdx.x + k * step];
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (threadIdx.x + k * step >= packs) break;
#pragma unroll
    for (int e = 0; e < kCount; ++e) total += to_float(kept[k].element[e]);
  }
  const float mean = block_sum(total, scratch) / args.channels;

  float squares = 0.0f;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (threadIdx.x + k * step >= packs) break;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float centered = to_float(kept[k].element[e]) - mean;
      squares += centered * centered;
    }
  }
  const float inverse = rsqrtf(block_sum(squares, scratch) / args.channels + args.eps);

  float result[kPacks][kCount], amax = 0.0f;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    const int i = threadIdx.x + k * step;
    if (i >= packs) break;
    const P shift_pack = shift[i], scale_pack = scale[i];
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float normed = (to_float(kept[k].element[e]) - mean) * inverse;
      result[k][e] = fmaf(normed, 1.0f + to_float(scale_pack.element[e]), to_float(shift_pack.element[e]));
      if constexpr (kQuantized) amax = fmaxf(amax, fabsf(result[k][e]));
    }
    if constexpr (!kQuantized) {
      P pack;
#pragma unroll
      for (int e = 0; e < kCount; ++e) pack.element[e] = from_float<T>(result[k][e]);
      reinterpret_cast<P*>(static_cast<T*>(args.out) + row * args.channels)[i] = pack;
    }
  }
  if constexpr (kQuantized) {
    const float row_scale = e4m3_scale(block_max(amax, scratch)), inverse_scale = 1.0f / row_scale;
    if (threadIdx.x == 0) args.out_scale[row] = row_scale;
    uint8_t* out = static_cast<uint8_t*>(args.out) + row * args.channels;
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      const int i = threadIdx.x + k * step;
      if (i >= packs) break;
      store_e4m3<kCount>(out + static_cast<int64_t>(i) * kCount, result[k], inverse_scale);
    }
  }
}

template <class T, int kCount>
int launch_packs(const hunyuan_layer_norm_modulate_args& args, cudaStream_t stream) {
  const int64_t packs = args.channels / kCount;
  if (packs > 1024 * kPacksPerThread<kCount>)
    return fail(HUNYUAN_BAD_ARGUMENT, "layer_norm_modulate: %lld channels are too many for the CUDA kernel",
                static_cast<long long>(args.channels));
  const LaunchShape shape{args.batch * args.tokens,
                          static_cast<unsigned>(threads_of_row(packs, kPacksPerThread<kCount>))};
  return args.out_scale ? launch("layer_norm_modulate", shape, stream, modulate_kernel<T, kCount, true>, args)
                        : launch("layer_norm_modulate", shape, stream, modulate_kernel<T, kCount, false>, args);
}

template <class T>
int launch_dtype(const hunyuan_layer_norm_modulate_args& args, cudaStream_t stream) {
  const bool wide = args.channels * sizeof(T) % 16 == 0 && aligned16<T>(args.x, args.x_batch_stride) &&
                    aligned16<T>(args.x, args.x_token_stride) && aligned16<T>(args.shift, args.shift_batch_stride) &&
                    aligned16<T>(args.scale, args.scale_batch_stride) && aligned16<T>(args.out, 0);
  return wide ? launch_packs<T, Pack16<T>::count>(args, stream) : launch_packs<T, 1>(args, stream);
}

}  // namespace

int layer_norm_modulate_cuda(const hunyuan_layer_norm_modulate_args& args, hunyuan_target target) {
  return for_dtype("layer_norm_modulate", args.dtype, target, [&args](auto element, cudaStream_t stream) {
    return launch_dtype<decltype(element)>(args, stream);
  });
}

}  // namespace hunyuan
