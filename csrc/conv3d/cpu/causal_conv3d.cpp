// Convolution of a padded channels-last volume, 16 output channels and 4 neighboring positions at a time; float32 sums.
#include "common/simd/row_product.h"
#include "conv3d/conv3d.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
void pack(const hunyuan_causal_conv3d_args& args, int64_t first, int64_t columns, float* packed) {
  const int64_t count = args.kernel[0] * args.kernel[1] * args.kernel[2] * args.channels;
  for (int64_t column = 0; column < kColumns; ++column) {
    if (column < columns)
      pack_column(static_cast<const T*>(args.weight) + (first + column) * count, count, column, packed);
    else
      clear_column(count, column, packed);
  }
}

inline Vec bias_at(const hunyuan_causal_conv3d_args& args, int64_t channel, Full) {
  if (args.bias_dtype == HUNYUAN_F32) return load(static_cast<const float*>(args.bias) + channel);
  return load(static_cast<const bf16*>(args.bias) + channel);
}
inline Vec bias_at(const hunyuan_causal_conv3d_args& args, int64_t channel, Tail part) {
  if (args.bias_dtype == HUNYUAN_F32) return load(static_cast<const float*>(args.bias) + channel, part);
  return load(static_cast<const bf16*>(args.bias) + channel, part);
}

template <class T>
void rows_of(const hunyuan_causal_conv3d_args& args, int64_t first, int64_t begin, int64_t end, float* packed) {
  const int64_t columns = args.out_channels - first < kColumns ? args.out_channels - first : kColumns;
  const int64_t out_rows = (args.rows - args.kernel[1]) / args.stride[1] + 1;
  const int64_t out_frames = (args.frames - args.kernel[0]) / args.stride[0] + 1;
  const int64_t out_columns = (args.columns - args.kernel[2]) / args.stride[2] + 1;
  const int64_t line = args.columns * args.channels, plane = args.rows * line;
  const int64_t run = args.kernel[2] * args.channels;  // the taps of a row of the kernel lie side by side
  pack<T>(args, first, columns, packed);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t frame = row / out_rows % out_frames, sample = row / out_rows / out_frames;
    const T* corner = static_cast<const T*>(args.x) + (sample * args.frames + frame * args.stride[0]) * plane +
                      row % out_rows * args.stride[1] * line;
    for (int64_t at = 0; at < out_columns; at += kRows) {
      const int64_t count = out_columns - at < kRows ? out_columns - at : kRows;
      Sums sums = no_sums();
      const float* weight = packed;
      for (int64_t t = 0; t < args.kernel[0]; ++t)
        for (int64_t r = 0; r < args.kernel[1]; ++r, weight += run * kColumns) {
          const T* from[kRows];
          for (int64_t i = 0; i < kRows; ++i)  // past the end: the last one again, whose sums are not written
            from[i] =
                corner + t * plane + r * line + (at + (i < count ? i : count - 1)) * args.stride[2] * args.channels;
          add_products(from, run, weight, sums);
        }
      for (int64_t i = 0; i < count; ++i) {
        const int64_t place = (row * out_columns + at + i) * args.out_channels + first;
        for_each_register(columns, [&](int64_t j, int64_t column, auto part) {
          Vec value = sums.of[i][j];
          if (args.bias) value = value + bias_at(args, first + column, part);
          if (args.residual) value = value + load(static_cast<const T*>(args.residual) + place + column, part);
          store(static_cast<T*>(args.out) + place + column, value, part);
        });
      }
    }
  }
}

}  // namespace

void causal_conv3d_rows(const hunyuan_causal_conv3d_args& args, int64_t first, int64_t begin, int64_t end,
                        float* packed) {
  if (args.dtype == HUNYUAN_F32) return rows_of<float>(args, first, begin, end, packed);
  rows_of<bf16>(args, first, begin, end, packed);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
