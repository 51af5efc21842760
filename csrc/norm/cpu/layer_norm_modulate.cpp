// LayerNorm + modulation of a few rows at a time: two passes for the statistics, one to write. The rows stay in the
// first cache; their sums overlap, and scale and shift are read and widened once for all of them. A row's terms are
// added in one order, however many rows there are.
#include "norm/norm.h"

#include "common/simd/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

constexpr int kTogether = Vec::width == 16 ? 4 : 2;  // their sums stay in registers

// Sums of a row: of pieces of Two::width, and of the rest.
struct Sums {
  Two twos = {set(0.0f), set(0.0f)};
  Vec rest = set(0.0f);

  float total() const { return sum(twos.first + twos.second + rest); }
};

template <class T, int rows>
struct Rows {
  const T* x[rows];
  T* out[rows];
  int64_t ahead;  // elements from these rows to those that come next
};

template <class T, int rows>
void modulate(const Rows<T, rows>& at, const T* shift, const T* scale, int64_t channels, float eps) {
  const float count = static_cast<float>(channels);
  const int64_t twos = channels - channels % Two::width;
  // The sum of float32 values with a large mean is a little off, which the sum of distances from it shows. The steps of
  // bfloat16 are far larger.
  constexpr bool kCorrects = sizeof(T) == 4;
  Sums sums[rows], distances[rows], squares[rows];
  Vec mean[rows], inverse[rows];

  for (int64_t c = 0; c < twos; c += Two::width)
    for (int r = 0; r < rows; ++r) sums[r].twos = sums[r].twos + load_two(at.x[r] + c);
  for_each_vec(channels - twos, [&](int64_t i, auto part) {
    for (int r = 0; r < rows; ++r) sums[r].rest = sums[r].rest + load(at.x[r] + twos + i, part);
  });
  for (int r = 0; r < rows; ++r) mean[r] = set(sums[r].total() / count);

  for (int64_t c = 0; c < twos; c += Two::width)
    for (int r = 0; r < rows; ++r) {
      __builtin_prefetch(at.x[r] + at.ahead + c, 0, 2);
      const Two distance = load_two(at.x[r] + c) - mean[r];
      if constexpr (kCorrects) distances[r].twos = distances[r].twos + distance;
      squares[r].twos = fma(distance, distance, squares[r].twos);
    }
  for_each_vec(channels - twos, [&](int64_t i, auto part) {
    for (int r = 0; r < rows; ++r) {
      const Vec distance = keep(load(at.x[r] + twos + i, part) - mean[r], part);
      if constexpr (kCorrects) distances[r].rest = distances[r].rest + distance;
      squares[r].rest = fma(distance, distance, squares[r].rest);
    }
  });
  for (int r = 0; r < rows; ++r) {
    float variance = squares[r].total() / count;
    if constexpr (kCorrects) {
      const float error = distances[r].total() / count, without = variance - error * error;
      mean[r] = mean[r] + set(error);
      variance = without < 0.0f ? 0.0f : without;  // a NaN stays
    }
    inverse[r] = set(1.0f / __builtin_sqrtf(variance + eps));
  }

  for (int64_t c = 0; c < twos; c += Two::width) {
    const Two slope = load_two(scale + c) + set(1.0f), start = load_two(shift + c);
    for (int r = 0; r < rows; ++r)
      store_two(at.out[r] + c, fma((load_two(at.x[r] + c) - mean[r]) * inverse[r], slope, start));
  }
  for_each_vec(channels - twos, [&](int64_t i, auto part) {
    const int64_t c = twos + i;
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
