// LayerNorm + modulation of a few rows at a time: two passes for the statistics, one to write. The rows stay in the
// first cache; their sums overlap, and scale and shift are read and widened once for all of them. A row's terms are
// added in one order, however many rows there are.
#include "norm/norm.h"

#include "common/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

constexpr int kTogether = 4;

template <class T, int rows>
struct Rows {
  const T* x[rows];
  T* out[rows];
  int64_t ahead;  // elements from these rows to those that come next
};

template <class T, int rows>
void modulate(const Rows<T, rows>& at, const T* shift, const T* scale, int64_t channels, float eps) {
  const float count = static_cast<float>(channels);
  const int64_t even = channels - channels % Two::width;
  Two sums[rows];
  Vec rest[rows], mean[rows], inverse[rows];
  const auto clear = [&] {
    for (int r = 0; r < rows; ++r) rest[r] = sums[r].first = sums[r].second = set(0.0f);
  };
  const auto average = [&](int r) { return sum(sums[r].first + sums[r].second + rest[r]) / count; };

  clear();
  for (int64_t c = 0; c < even; c += Two::width)
    for (int r = 0; r < rows; ++r) sums[r] = sums[r] + load_two(at.x[r] + c);
  for_each_vec(channels - even, [&](int64_t i, auto part) {
    for (int r = 0; r < rows; ++r) rest[r] = rest[r] + load(at.x[r] + even + i, part);
  });
  for (int r = 0; r < rows; ++r) mean[r] = set(average(r));

  clear();
  for (int64_t c = 0; c < even; c += Two::width)
    for (int r = 0; r < rows; ++r) {
      __builtin_prefetch(at.x[r] + at.ahead + c, 0, 2);
      const Two centred = load_two(at.x[r] + c) - mean[r];
      sums[r] = fma(centred, centred, sums[r]);
    }
  for_each_vec(channels - even, [&](int64_t i, auto part) {
    for (int r = 0; r < rows; ++r) {
      const Vec centred = keep(load(at.x[r] + even + i, part) - mean[r], part);
      rest[r] = fma(centred, centred, rest[r]);
    }
  });
  for (int r = 0; r < rows; ++r) inverse[r] = set(1.0f / __builtin_sqrtf(average(r) + eps));

  for (int64_t c = 0; c < even; c += Two::width) {
    const Two slope = load_two(scale + c) + set(1.0f), start = load_two(shift + c);
    for (int r = 0; r < rows; ++r)
      store_two(at.out[r] + c, fma((load_two(at.x[r] + c) - mean[r]) * inverse[r], slope, start));
  }
  for_each_vec(channels - even, [&](int64_t i, auto part) {
    const int64_t c = even + i;
    const Vec slope = load(scale + c, part) + set(1.0f), start = load(shift + c, part);
    for (int r = 0; r < rows; ++r)
      store(at.out[r] + c, fma((load(at.x[r] + c, part) - mean[r]) * inverse[r], slope, start), part);
  });
}

// Rows from `row` on, of one sample.
template <int rows, class T>
void modulate_from(const hunyuan_layer_norm_modulate_args& args, int64_t row) {
  const int64_t b = row / args.tokens, s = row % args.tokens;
  Rows<T, rows> at;
  at.ahead = rows * args.x_token_stride;
  for (int r = 0; r < rows; ++r) {
    at.x[r] = static_cast<const T*>(args.x) + b * args.x_batch_stride + (s + r) * args.x_token_stride;
    at.out[r] = static_cast<T*>(args.out) + (row + r) * args.channels;
  }
  modulate(at, static_cast<const T*>(args.shift) + b * args.shift_batch_stride,
           static_cast<const T*>(args.scale) + b * args.scale_batch_stride, args.channels, args.eps);
}

template <class T>
void modulate_rows(const hunyuan_layer_norm_modulate_args& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end;) {
    const bool all = row + kTogether <= end && row % args.tokens + kTogether <= args.tokens;
    all ? modulate_from<kTogether, T>(args, row) : modulate_from<1, T>(args, row);
    row += all ? kTogether : 1;
  }
}

}  // namespace

void layer_norm_modulate_rows(const hunyuan_layer_norm_modulate_args& args, int64_t begin, int64_t end) {
  if (args.dtype == HUNYUAN_F32) return modulate_rows<float>(args, begin, end);
  modulate_rows<bf16>(args, begin, end);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
