// LayerNorm + modulation: one block a row, the row in registers between the passes, float32 statistics.
// Bound by memory: each element of x is read once and written once, 16 bytes at a time.
#include "common/cuda.cuh"
#include "norm/norm.h"

namespace hunyuan {
namespace {

using namespace device;

// Packs a thread keeps in registers: enough for rows of 16384 channels with 1024 threads.
template <int kCount>
constexpr int kPacksPerThread = kCount == 1 ? 16 : 4;

template <class T, int kCount>
__global__ void modulate_kernel(const hunyuan_layer_norm_modulate_args args) {
  using P = Pack<T, kCount>;
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x, b = row / args.tokens, s = row % args.tokens;
  const P* x = reinterpret_cast<const P*>(static_cast<const T*>(args.x) + b * args.x_batch_stride + s * args.x_token_stride);
  const P* shift = reinterpret_cast<const P*>(static_cast<const T*>(args.shift) + b * args.shift_batch_stride);
  const P* scale = reinterpret_cast<const P*>(static_cast<const T*>(args.scale) + b * args.scale_batch_stride);
  P* out = reinterpret_cast<P*>(static_cast<T*>(args.out) + row * args.channels);
  const int packs = static_cast<int>(args.channels / kCount);

  P kept[kPacksPerThread<kCount>];
  float total = 0.0f;
#pragma unroll
  for (int k = 0; k < kPacksPerThread<kCount>; ++k) {
    const int i = threadIdx.x + k * blockDim.x;
    if (i >= packs) break;
    kept[k] = x[i];
#pragma unroll
    for (int e = 0; e < kCount; ++e) total += to_float(kept[k].element[e]);
  }
  const float mean = block_sum(total, scratch) / args.channels;

  float squares = 0.0f;
#pragma unroll
  for (int k = 0; k < kPacksPerThread<kCount>; ++k) {
    if (threadIdx.x + k * blockDim.x >= packs) break;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float centred = to_float(kept[k].element[e]) - mean;
      squares += centred * centred;
    }
  }
  const float inverse = rsqrtf(block_sum(squares, scratch) / args.channels + args.eps);

#pragma unroll
  for (int k = 0; k < kPacksPerThread<kCount>; ++k) {
    const int i = threadIdx.x + k * blockDim.x;
    if (i >= packs) break;
    const P shift_pack = shift[i], scale_pack = scale[i];
    P result;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float normed = (to_float(kept[k].element[e]) - mean) * inverse;
      const float modulated = fmaf(normed, 1.0f + to_float(scale_pack.element[e]), to_float(shift_pack.element[e]));
      result.element[e] = from_float<T>(modulated);
    }
    out[i] = result;
  }
}

template <class T, int kCount>
int launch_packs(const hunyuan_layer_norm_modulate_args& args, cudaStream_t stream) {
  const int64_t packs = args.channels / kCount, rows = args.batch * args.tokens;
  if (packs > 1024 * kPacksPerThread<kCount> || rows > 0x7fffffff)
    return fail(HUNYUAN_BAD_ARGUMENT, "layer_norm_modulate: %lld rows of %lld channels are too many for one launch",
                static_cast<long long>(rows), static_cast<long long>(args.channels));
  const int64_t wanted = (packs + kPacksPerThread<kCount> - 1) / kPacksPerThread<kCount>;
  const unsigned threads = static_cast<unsigned>((wanted + 31) / 32 * 32);
  modulate_kernel<T, kCount><<<static_cast<unsigned>(rows), threads, 0, stream>>>(args);
  HUNYUAN_CUDA_CHECK(cudaGetLastError());
  return HUNYUAN_OK;
}

template <class T>
int launch(const hunyuan_layer_norm_modulate_args& args, cudaStream_t stream) {
  const bool wide = args.channels * sizeof(T) % 16 == 0 && aligned16<T>(args.x, args.x_batch_stride) &&
                    aligned16<T>(args.x, args.x_token_stride) && aligned16<T>(args.shift, args.shift_batch_stride) &&
                    aligned16<T>(args.scale, args.scale_batch_stride) && aligned16<T>(args.out, 0);
  return wide ? launch_packs<T, Pack16<T>::count>(args, stream) : launch_packs<T, 1>(args, stream);
}

}  // namespace

int layer_norm_modulate_cuda(const hunyuan_layer_norm_modulate_args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  const auto stream = static_cast<cudaStream_t>(target.stream);
  switch (args.dtype) {
    case HUNYUAN_F32: return launch<float>(args, stream);
    case HUNYUAN_BF16: return launch<__nv_bfloat16>(args, stream);
    case HUNYUAN_F16: return launch<__half>(args, stream);
    default: return fail(HUNYUAN_BAD_DTYPE, "layer_norm_modulate: the CUDA kernel takes float32, bfloat16 or float16");
  }
}

}  // namespace hunyuan
