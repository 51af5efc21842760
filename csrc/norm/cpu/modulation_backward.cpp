// Gradients of LayerNorm + modulation and of the gated residual: a row at a time, which stays in the first cache.
#include "common/simd/simd.h"
#include "norm/norm.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
struct Rows {
  const T* first;
  int64_t stride;
  Rows(const void* data, const int64_t strides[2], int64_t sample, int64_t token)
      : first(static_cast<const T*>(data) + sample * strides[0] + token * strides[1]), stride(strides[1]) {}
};

inline void add_to(float* at, Vec value, Full) { store(at, load(static_cast<const float*>(at)) + value); }
inline void add_to(float* at, Vec value, Tail tail) {
  store_first(at, load_first(static_cast<const float*>(at), tail.count) + value, tail.count);
}

template <class T>
void layer_norm_tokens(const hunyuan_layer_norm_modulate_backward_args& args, int64_t b, int64_t begin, int64_t end,
                       float* sums) {
  const int64_t channels = args.channels;
  const float count = static_cast<float>(channels);
  const Rows<T> grads(args.grad_out, args.grad_stride, b, begin), inputs(args.x, args.x_stride, b, begin);
  const T* scale = static_cast<const T*>(args.scale) + b * args.scale_batch_stride;
  T* out = static_cast<T*>(args.grad_x) + (b * args.tokens + begin) * channels;
  memset(sums, 0, 2 * channels * sizeof(float));
  for (int64_t i = 0; i < end - begin; ++i, out += channels) {
    const T *grad = grads.first + i * grads.stride, *x = inputs.first + i * inputs.stride;
    const Vec mean = set(sum_terms(channels, [&](int64_t c, auto part) { return load(x + c, part); }) / count);
    const float squares = sum_terms(channels, [&](int64_t c, auto part) {
      const Vec centered = load(x + c, part) - mean;
      return centered * centered;
    });
    const Vec inverse = set(1.0f / __builtin_sqrtf(squares / count + args.eps));
    const auto inner = [&](int64_t c, auto part) { return load(grad + c, part) * (load(scale + c, part) + set(1.0f)); };
    const Vec inner_mean = set(sum_terms(channels, inner) / count);
    const float along = sum_terms(
        channels, [&](int64_t c, auto part) { return inner(c, part) * (load(x + c, part) - mean) * inverse; });
    const Vec shared = set(along / count);
    for_each_vec(channels, [&](int64_t c, auto part) {
      const Vec g = load(grad + c, part), normed = (load(x + c, part) - mean) * inverse;
      add_to(sums + c, g, part);
      add_to(sums + channels + c, g * normed, part);
      store(out + c, (inner(c, part) - inner_mean - normed * shared) * inverse, part);
    });
  }
}

template <class T>
void gate_tokens(const hunyuan_gate_residual_backward_args& args, int64_t b, int64_t begin, int64_t end, float* sums) {
  const int64_t channels = args.channels;
  const Rows<T> grads(args.grad_out, args.grad_stride, b, begin), inputs(args.y, args.y_stride, b, begin);
  const T* gate = static_cast<const T*>(args.gate) + b * args.gate_batch_stride;
  T* out = static_cast<T*>(args.grad_y) + (b * args.tokens + begin) * channels;
  memset(sums, 0, channels * sizeof(float));
  for (int64_t i = 0; i < end - begin; ++i, out += channels) {
    const T *grad = grads.first + i * grads.stride, *y = inputs.first + i * inputs.stride;
    for_each_vec(channels, [&](int64_t c, auto part) {
      const Vec g = load(grad + c, part);
      add_to(sums + c, g * load(y + c, part), part);
      store(out + c, g * load(gate + c, part), part);
    });
  }
}

template <class T>
void add_rows_as(const float* rows, int64_t count, int64_t row_stride, int64_t channels, T* out) {
  for_each_vec(channels, [&](int64_t c, auto part) {
    Vec total = set(0.0f);
    for (int64_t i = 0; i < count; ++i) total = total + load(rows + i * row_stride + c, part);
    store(out + c, total, part);
  });
}

}  // namespace

void layer_norm_backward_tokens(const hunyuan_layer_norm_modulate_backward_args& args, int64_t b, int64_t begin,
                                int64_t end, float* sums) {
  if (args.dtype == HUNYUAN_F32) return layer_norm_tokens<float>(args, b, begin, end, sums);
  layer_norm_tokens<bf16>(args, b, begin, end, sums);
}

void gate_backward_tokens(const hunyuan_gate_residual_backward_args& args, int64_t b, int64_t begin, int64_t end,
                          float* sums) {
  if (args.dtype == HUNYUAN_F32) return gate_tokens<float>(args, b, begin, end, sums);
  gate_tokens<bf16>(args, b, begin, end, sums);
}

void add_rows(const float* rows, int64_t count, int64_t row_stride, int64_t channels, void* out, hunyuan_dtype dtype) {
  if (dtype == HUNYUAN_F32) return add_rows_as(rows, count, row_stride, channels, static_cast<float*>(out));
  add_rows_as(rows, count, row_stride, channels, static_cast<bf16*>(out));
}

}  // namespace hunyuan::HUNYUAN_LEVEL
