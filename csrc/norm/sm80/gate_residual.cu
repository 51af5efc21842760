// x + gate * y: one thread a 16-byte pack, bound by memory (three reads, one write; gate stays in cache).
#include "common/cuda.cuh"
#include "norm/norm.h"

namespace hunyuan {
namespace {

using namespace device;

constexpr int kThreads = 256;

template <class T, int kCount>
__global__ void gate_kernel(const hunyuan_gate_residual_args args, int64_t packs_per_row, int64_t packs) {
  using P = Pack<T, kCount>;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= packs) return;
  const int64_t row = index / packs_per_row, i = index % packs_per_row, b = row / args.tokens, s = row % args.tokens;
  const P x = reinterpret_cast<const P*>(static_cast<const T*>(args.x) + b * args.x_batch_stride + s * args.x_token_stride)[i];
  const P y = reinterpret_cast<const P*>(static_cast<const T*>(args.y) + b * args.y_batch_stride + s * args.y_token_stride)[i];
  const P gate = reinterpret_cast<const P*>(static_cast<const T*>(args.gate) + b * args.gate_batch_stride)[i];
  P result;
#pragma unroll
  for (int e = 0; e < kCount; ++e)
    result.element[e] =
        from_float<T>(fmaf(to_float(gate.element[e]), to_float(y.element[e]), to_float(x.element[e])));
  reinterpret_cast<P*>(args.out)[index] = result;
}

template <class T, int kCount>
int launch_packs(const hunyuan_gate_residual_args& args, cudaStream_t stream) {
  const int64_t packs_per_row = args.channels / kCount, packs = args.batch * args.tokens * packs_per_row;
  const int64_t blocks = (packs + kThreads - 1) / kThreads;
  if (blocks > 0x7fffffff)
    return fail(HUNYUAN_BAD_ARGUMENT, "gate_residual: %lld elements are too many for one launch",
                static_cast<long long>(packs * kCount));
  gate_kernel<T, kCount><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(args, packs_per_row, packs);
  HUNYUAN_CUDA_CHECK(cudaGetLastError());
  return HUNYUAN_OK;
}

template <class T>
int launch(const hunyuan_gate_residual_args& args, cudaStream_t stream) {
  const bool wide = args.channels * sizeof(T) % 16 == 0 && aligned16<T>(args.x, args.x_batch_stride) &&
                    aligned16<T>(args.x, args.x_token_stride) && aligned16<T>(args.y, args.y_batch_stride) &&
                    aligned16<T>(args.y, args.y_token_stride) && aligned16<T>(args.gate, args.gate_batch_stride) &&
                    aligned16<T>(args.out, 0);
  return wide ? launch_packs<T, Pack16<T>::count>(args, stream) : launch_packs<T, 1>(args, stream);
}

}  // namespace

int gate_residual_cuda(const hunyuan_gate_residual_args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  const auto stream = static_cast<cudaStream_t>(target.stream);
  switch (args.dtype) {
    case HUNYUAN_F32: return launch<float>(args, stream);
    case HUNYUAN_BF16: return launch<__nv_bfloat16>(args, stream);
    case HUNYUAN_F16: return launch<__half>(args, stream);
    default: return fail(HUNYUAN_BAD_DTYPE, "gate_residual: the CUDA kernel takes float32, bfloat16 or float16");
  }
}

}  // namespace hunyuan
