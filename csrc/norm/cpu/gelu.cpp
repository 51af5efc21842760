// GELU in its tanh form, and its gradient: one pass.
#include "common/simd/simd.h"
#include "norm/norm.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

constexpr float kTwice = 1.59576912f;    // 2 sqrt(2 / pi)
constexpr float kCubic = 0.0713548163f;  // 0.044715 of that

// 1 / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3): (1 + tanh(u)) / 2.
template <class T>
inline Vec share(Vec x, Vec square) {
  return over_one_plus<T>(set(1.0f), exp_as<T>(x * fma(square, set(-kCubic), set(-kTwice))));
}

template <class T>
void rows_of(const hunyuan_gelu_args& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(args.x) + row * args.x_stride;
    T* out = static_cast<T*>(args.out) + row * args.out_stride;
    if (!args.grad_out) {
      for_each_vec(args.columns, [&](int64_t c, auto part) {
        const Vec value = load(x + c, part);
        store(out + c, value * share<T>(value, value * value), part);
      });
      continue;
    }
    const T* grad = static_cast<const T*>(args.grad_out) + row * args.grad_stride;
    for_each_vec(args.columns, [&](int64_t c, auto part) {
      const Vec value = load(x + c, part), square = value * value, s = share<T>(value, square);
      const Vec slope = value * fma(square, set(3.0f * kCubic), set(kTwice));  // x 2 u'(x)
      store(out + c, load(grad + c, part) * fma(s * (set(1.0f) - s), slope, s), part);
    });
  }
}

}  // namespace

void gelu_rows(const hunyuan_gelu_args& args, int64_t begin, int64_t end) {
  if (args.dtype == HUNYUAN_F32) return rows_of<float>(args, begin, end);
  rows_of<bf16>(args, begin, end);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
