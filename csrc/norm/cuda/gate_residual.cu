// x + gate * y: one block a row, 16-byte packs, bound by memory (two reads, one write; gate stays in cache).
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"
#include "norm/norm.h"

namespace hunyuan {
namespace {

using namespace device;

constexpr int kPacksPerThread = 4;  // independent loads in flight
constexpr int kMostThreads = 256;

template <class T, int kCount>
__global__ void __launch_bounds__(kMostThreads) gate_kernel(const hunyuan_gate_residual_args args) {
  using P = Pack<T, kCount>;
  const int64_t row = blockIdx.x, b = row / args.tokens, s = row % args.tokens;
  const auto* x =
      reinterpret_cast<const P*>(static_cast<const T*>(args.x) + b * args.x_batch_stride + s * args.x_token_stride);
  const auto* y =
      reinterpret_cast<const P*>(static_cast<const T*>(args.y) + b * args.y_batch_stride + s * args.y_token_stride);
  const auto* gate = reinterpret_cast<const P*>(static_cast<const T*>(args.gate) + b * args.gate_batch_stride);
  P* out = reinterpret_cast<P*>(static_cast<T*>(args.out) + row * args.channels);
  const int packs = static_cast<int>(args.channels / kCount), step = blockDim.x;
  for (int start = threadIdx.x; start < packs; start += step * kPacksPerThread) {
    P x_pack[kPacksPerThread], y_pack[kPacksPerThread];
#pragma unroll
    for (int k = 0; k < kPacksPerThread; ++k)
      if (start + k * step < packs) x_pack[k] = x[start + k * step], y_pack[k] = y[start + k * step];
#pragma unroll
    for (int k = 0; k < kPacksPerThread; ++k) {
      if (start + k * step >= packs) break;
      const P gate_pack = gate[start + k * step];
      P result;
#pragma unroll
      for (int e = 0; e < kCount; ++e)
        result.element[e] = from_float<T>(
            fmaf(to_float(gate_pack.element[e]), to_float(y_pack[k].element[e]), to_float(x_pack[k].element[e])));
      out[start + k * step] = result;
    }
  }
}

template <class T, int kCount>
int launch_packs(const hunyuan_gate_residual_args& args, cudaStream_t stream) {
  const int64_t packs = args.channels / kCount;
  if (packs > 0x3fffffff)
    return fail(HUNYUAN_BAD_ARGUMENT, "gate_residual: %lld channels are too many for one row",
                static_cast<long long>(args.channels));
  const int64_t wanted = threads_of_row(packs, kPacksPerThread);
  const unsigned threads = wanted < kMostThreads ? static_cast<unsigned>(wanted) : kMostThreads;
  return launch("gate_residual", {args.batch * args.tokens, threads}, stream, gate_kernel<T, kCount>, args);
}

template <class T>
int launch_dtype(const hunyuan_gate_residual_args& args, cudaStream_t stream) {
  const bool wide = args.channels * sizeof(T) % 16 == 0 && aligned16<T>(args.x, args.x_batch_stride) &&
                    aligned16<T>(args.x, args.x_token_stride) && aligned16<T>(args.y, args.y_batch_stride) &&
                    aligned16<T>(args.y, args.y_token_stride) && aligned16<T>(args.gate, args.gate_batch_stride) &&
                    aligned16<T>(args.out, 0);
  return wide ? launch_packs<T, Pack16<T>::count>(args, stream) : launch_packs<T, 1>(args, stream);
}

}  // namespace

int gate_residual_cuda(const hunyuan_gate_residual_args& args, hunyuan_target target) {
  return for_dtype("gate_residual", args.dtype, target, [&args](auto element, cudaStream_t stream) {
    return launch_dtype<decltype(element)>(args, stream);
  });
}

}  // namespace hunyuan
