// RMSNorm + rotary embedding of q and k, one memory pass: a warp takes a token, whose row of the cos/sin table and
// whose norm weights stay in registers while it walks over all heads of q and k, several heads at a time. A lane holds
// 16 bytes of a head. Bound by memory: each element is read and written once, 16 bytes at a time, four loads in flight.
#include "attention/attention.h"
#include "attention/cuda/norm_rope.cuh"
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"

namespace hunyuan {
namespace {

using namespace device;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kInFlight = 4;  // loads a lane issues before it uses the first

// What a lane needs to know of its token: `kCount` entries from its place in head_dim on.
template <int kCount>
struct TokenTables {
  float cos[kCount], sin[kCount], weight[2][kCount];
  bool rotate, norm[2];

  __device__ TokenTables(const hunyuan_qk_norm_rope_args& args, int64_t s, int first) {
    const int64_t video = args.tokens - args.text_tokens;
    rotate = args.cos && s < video;
    if (rotate) {
#pragma unroll
      for (int i = 0; i < kCount; i += 4) {
        *reinterpret_cast<float4*>(cos + i) =
            *reinterpret_cast<const float4*>(args.cos + s * args.cos_stride + first + i);
        *reinterpret_cast<float4*>(sin + i) =
            *reinterpret_cast<const float4*>(args.sin + s * args.sin_stride + first + i);
      }
    }
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const void* weights = s >= video && args.text_norm[t] ? args.text_norm[t] : args.norm[t];
      norm[t] = weights != nullptr;
      attention::load_weights(weights, args.norm_dtype, first, weight[t]);
    }
  }

  // `inverse`: 1 / root mean square of the head.
  template <class T>
  __device__ Pack<T, kCount> apply(const Pack<T, kCount>& pack, int t, float inverse) const {
    float y[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] = to_float(pack.element[i]) * inverse * weight[t][i];
    if (rotate) attention::rotate(y, cos, sin);
    Pack<T, kCount> result;
#pragma unroll
    for (int i = 0; i < kCount; ++i) result.element[i] = from_float<T>(y[i]);
    return result;
  }
};

// `lanes` lanes share a head: head_dim * sizeof(T) / 16, a power of two up to 32.
template <class T>
__global__ void __launch_bounds__(kThreads) norm_rope_kernel(const hunyuan_qk_norm_rope_args args, const int lanes) {
  constexpr int kCount = Pack16<T>::count;
  using P = Pack16<T>;
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (token >= args.batch * args.tokens) return;
  const int64_t b = token / args.tokens, s = token % args.tokens;
  const int lane = threadIdx.x % 32, first = lane % lanes * kCount, heads_at_once = 32 / lanes;
  const int heads = static_cast<int>(args.heads);
  const TokenTables<kCount> tables(args, s, first);

#pragma unroll
  for (int t = 0; t < 2; ++t) {
    const T* in = static_cast<const T*>(args.in[t]) + b * args.in_batch_stride[t] + s * args.in_token_stride[t] + first;
    T* out = static_cast<T*>(args.out[t]) + b * args.out_batch_stride[t] + s * args.out_token_stride[t] + first;
    for (int h = lane / lanes; h - lane / lanes < heads; h += kInFlight * heads_at_once) {
      P pack[kInFlight];
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) {
        pack[k] = P{};
        if (h + k * heads_at_once < heads)
          pack[k] = *reinterpret_cast<const P*>(in + (h + k * heads_at_once) * args.in_head_stride[t]);
      }
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) {
        float inverse = 1.0f;
        if (tables.norm[t]) {
          float squares = 0.0f;
#pragma unroll
          for (int i = 0; i < kCount; ++i) squares += to_float(pack[k].element[i]) * to_float(pack[k].element[i]);
          for (int offset = lanes / 2; offset > 0; offset /= 2)
            squares += __shfl_xor_sync(0xffffffffu, squares, offset);
          inverse = rsqrtf(squares / args.head_dim + args.eps);
        }
        if (h + k * heads_at_once < heads)
          *reinterpret_cast<P*>(out + (h + k * heads_at_once) * args.out_head_stride[t]) =
              tables.apply(pack[k], t, inverse);
      }
    }
  }
}

template <class T>
int start(const hunyuan_qk_norm_rope_args& args, cudaStream_t stream) {
  const int64_t lanes = args.head_dim * static_cast<int64_t>(sizeof(T)) / 16;
  bool fits = args.head_dim * sizeof(T) % 16 == 0 && lanes <= 32 && (lanes & (lanes - 1)) == 0;
  for (int t = 0; t < 2; ++t)
    fits = fits && aligned16<T>(args.in[t], args.in_batch_stride[t]) &&
           aligned16<T>(args.in[t], args.in_token_stride[t]) && aligned16<T>(args.in[t], args.in_head_stride[t]) &&
           aligned16<T>(args.out[t], args.out_batch_stride[t]) && aligned16<T>(args.out[t], args.out_token_stride[t]) &&
           aligned16<T>(args.out[t], args.out_head_stride[t]) && aligned16<float>(args.norm[t], 0) &&
           aligned16<float>(args.text_norm[t], 0);
  if (args.cos)
    fits = fits && aligned16<float>(args.cos, args.cos_stride) && aligned16<float>(args.sin, args.sin_stride);
  if (!fits)
    return fail(HUNYUAN_BAD_ARGUMENT,
                "qk_norm_rope: on CUDA head_dim must be 16 bytes times a power of two up to 32, addresses and strides "
                "multiples of 16 bytes");
  const int64_t tokens = args.batch * args.tokens;
  return launch("qk_norm_rope", {(tokens + kWarps - 1) / kWarps, kThreads}, stream, norm_rope_kernel<T>, args,
                static_cast<int>(lanes));
}

}  // namespace

int qk_norm_rope_cuda(const hunyuan_qk_norm_rope_args& args, hunyuan_target target) {
  return for_dtype("qk_norm_rope", args.dtype, target,
                   [&args](auto element, cudaStream_t stream) { return start<decltype(element)>(args, stream); });
}

}  // namespace hunyuan
