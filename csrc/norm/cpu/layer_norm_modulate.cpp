// LayerNorm + modulation of one row at a time: two passes for the statistics, one to write; a row stays in L1.
#include "norm/norm.h"

#include "common/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
void modulate_row(const T* x, const T* shift, const T* scale, T* out, int64_t channels, float eps) {
  const float count = static_cast<float>(channels);
  const Vec mean = set(sum_terms(channels, [&](int64_t c, auto part) { return load(x + c, part); }) / count);
  const float squares = sum_terms(channels, [&](int64_t c, auto part) {
    const Vec centred = load(x + c, part) - mean;
    return centred * centred;
  });
  const Vec inverse = set(1.0f / __builtin_sqrtf(squares / count + eps));
  for_each_vec(channels, [&](int64_t c, auto part) {
    const Vec normed = (load(x + c, part) - mean) * inverse;
    store(out + c, fma(normed, load(scale + c, part) + set(1.0f), load(shift + c, part)), part);
  });
}

template <class T>
void modulate_rows(const hunyuan_layer_norm_modulate_args& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / args.tokens, s = row % args.tokens;
    modulate_row(static_cast<const T*>(args.x) + b * args.x_batch_stride + s * args.x_token_stride,
                 static_cast<const T*>(args.shift) + b * args.shift_batch_stride,
                 static_cast<const T*>(args.scale) + b * args.scale_batch_stride,
                 static_cast<T*>(args.out) + row * args.channels, args.channels, args.eps);
  }
}

}  // namespace

void layer_norm_modulate_rows(const hunyuan_layer_norm_modulate_args& args, int64_t begin, int64_t end) {
  if (args.dtype == HUNYUAN_F32) return modulate_rows<float>(args, begin, end);
  modulate_rows<bf16>(args, begin, end);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
