// RMSNorm + rotary embedding of q and k, a token at a time: its row of the cos/sin table is read once for all heads
// of both.
#include "attention/attention.h"
#include "attention/cpu/norm_rope.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
void tokens(const hunyuan_qk_norm_rope_args& args, const QkNormWeights* weights, int64_t begin, int64_t end) {
  const int64_t video = args.tokens - args.text_tokens, dim = args.head_dim;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t b = index / args.tokens, s = index % args.tokens;
    const bool is_video = s < video;
    const float* cos = args.cos && is_video ? args.cos + s * args.cos_stride : nullptr;
    const float* sin = args.sin && is_video ? args.sin + s * args.sin_stride : nullptr;
    for (int i = 0; i < 2; ++i) {
      const T* x = static_cast<const T*>(args.in[i]) + b * args.in_batch_stride[i] + s * args.in_token_stride[i];
      T* out = static_cast<T*>(args.out[i]) + b * args.out_batch_stride[i] + s * args.out_token_stride[i];
      const float* weight = is_video ? weights[i].video : weights[i].text;
      for (int64_t h = 0; h < args.heads; ++h)
        norm_rope_head(x + h * args.in_head_stride[i], out + h * args.out_head_stride[i], dim, weight, cos, sin,
                       args.eps);
    }
  }
}

}  // namespace

void qk_norm_rope_tokens(const hunyuan_qk_norm_rope_args& args, const QkNormWeights* weights, int64_t begin,
                         int64_t end) {
  if (args.dtype == HUNYUAN_F32) return tokens<float>(args, weights, begin, end);
  tokens<bf16>(args, weights, begin, end);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
