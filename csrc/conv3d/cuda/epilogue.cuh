// What happens to a tile of convolution results in registers: bias, residual, rounding, the store, and the moments of
// every group of the next GroupNorm. Shared by the mma.sync and the wgmma kernel.
#pragma once

#include "common/cuda/cuda.cuh"
#include "common/host/moments.h"
#include "common/matmul/fragment.cuh"

namespace hunyuan::conv3d {

struct Output {
  const void* bias;      // [channels] or null
  const void* residual;  // like out, or null
  void* out;
  Moments* moments;  // [batch, chunks, groups] or null
  int channels, groups;
  bool bias_is_float;  // else it has the type of out
  bool wide;           // channels are a multiple of 8 and addresses of 16 bytes: 16-byte accesses
};

inline Output output_of(const hunyuan_causal_conv3d_args& args) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  Output output{};
  output.bias = args.bias, output.residual = args.residual, output.out = args.out;
  output.moments = reinterpret_cast<Moments*>(args.moments);
  output.channels = static_cast<int>(args.out_channels), output.groups = static_cast<int>(args.groups);
  output.bias_is_float = args.bias_dtype == HUNYUAN_F32;
  output.wide = args.out_channels % 8 == 0 && aligned(args.out) && aligned(args.residual);
  return output;
}

// Shared memory that the moments need, in floats.
template <class Tile>
constexpr int kMomentFloats = Tile::kWarpsDown * Tile::kColumns + 2 * Tile::kColumns;

template <class T>
__device__ float bias_at(const Output& output, int column) {
  if (!output.bias || column >= output.channels) return 0.0f;
  return output.bias_is_float ? __ldg(static_cast<const float*>(output.bias) + column)
                              : device::to_float(__ldg(static_cast<const T*>(output.bias) + column));
}

// Adds bias and residual to a fragment, rounds it to T (the floats stay, rounded) and stores it. `loaded`: the residual
// of wide accesses. `offset`: element of the output where each of this thread's two rows starts, or -1 where there is
// none.
template <class T>
__device__ void finish_fragment(const Output& output, float* d, uint32_t (&loaded)[2][4], const int64_t (&offset)[2],
                                int first_column) {
  using namespace matmul;
  using Pair = PairOf<T>;
  const int quad_column = first_column + threadIdx.x % 4 * 8;  // of 16-byte accesses
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    const int column = first_column + chunk * 8 + lane_column();
    const float low = bias_at<T>(output, column), high = bias_at<T>(output, column + 1);
#pragma unroll
    for (int half = 0; half < 2; ++half) d[chunk * 4 + half * 2] += low, d[chunk * 4 + half * 2 + 1] += high;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    T* out = static_cast<T*>(output.out) + offset[half];
    const T* residual = static_cast<const T*>(output.residual) + offset[half];
    const bool present = offset[half] >= 0 && quad_column < output.channels;
    uint32_t r[4];
    if (output.wide) {
      if (output.residual) add_row<T>(d, half, loaded[half]);
      pack_row<T>(d, half, r);
      store8(out, quad_column, present, r);
    } else if (offset[half] >= 0) {
#pragma unroll
      for (int chunk = 0; chunk < 4; ++chunk)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = first_column + chunk * 8 + lane_column() + e;
          float& value = d[chunk * 4 + half * 2 + e];
          if (column >= output.channels) continue;
          if (output.residual) value += device::to_float(residual[column]);
          out[column] = device::from_float<T>(value);
        }
    }
#pragma unroll
    for (int chunk = 0; chunk < 4; ++chunk) {  // statistics are those of what was stored
      float* pair = &d[chunk * 4 + half * 2];
      const float2 rounded = Pair::unpack(Pair::pack(pair[0], pair[1]));
      pair[0] = rounded.x, pair[1] = rounded.y;
    }
  }
}

// The same for all fragments of one row of fragments. Their residuals are loaded before any of them is stored: one wait
// for memory instead of one for each.
template <class T, class Tile>
__device__ void finish_row(const Output& output, float* d, const int64_t (&offset)[2], int first_column) {
  uint32_t residual[Tile::kStrips][2][4] = {};
  if (output.residual && output.wide) {
#pragma unroll
    for (int strip = 0; strip < Tile::kStrips; ++strip)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = first_column + Tile::column(strip) + threadIdx.x % 4 * 8;
        matmul::load8(static_cast<const T*>(output.residual) + offset[half], column,
                      offset[half] >= 0 && column < output.channels, residual[strip][half]);
      }
  }
#pragma unroll
  for (int strip = 0; strip < Tile::kStrips; ++strip)
    finish_fragment<T>(output, d + strip * matmul::kFragmentFloats, residual[strip], offset,
                       first_column + Tile::column(strip));
}

// Sums over the rows of the tile of value(d[i], column in the tile), a column at a time, into
// scratch[warp_down][column].
template <class Tile, class Value>
__device__ void column_sums(typename Tile::Accumulators& acc, const bool (&present)[Tile::kRowFragments][2],
                            float* scratch, const Value& value) {
#pragma unroll
  for (int i = 0; i < Tile::kStrips * 8; ++i) {
    const int strip = i / 8, chunk = i / 2 % 4, e = i % 2;
    const int column = Tile::column(strip) + chunk * 8 + matmul::lane_column() + e;
    float sum = 0.0f;
#pragma unroll
    for (int m = 0; m < Tile::kRowFragments; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        if (present[m][half]) sum += value(acc[m][strip * matmul::kFragmentFloats + chunk * 4 + half * 2 + e], column);
    for (int lanes = 4; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (matmul::lane_row() == 0) scratch[Tile::warp_down() * Tile::kColumns + column] = sum;
  }
}

// Count, mean and squared distances of every group that the tile holds, to `moments` [groups]. `rows`: how many rows of
// the tile exist. Two passes over the registers: no cancellation. All threads of the tile call this.
template <class Tile>
__device__ void store_moments(const Output& output, typename Tile::Accumulators& acc,
                              const bool (&present)[Tile::kRowFragments][2], int rows, int first_column, float* scratch,
                              Moments* moments) {
  const int width = output.channels / output.groups;  // divides the columns of a tile
  const int left = output.channels - first_column;
  const int groups = (left < Tile::kColumns ? left : Tile::kColumns) / width;
  float* means = scratch + Tile::kWarpsDown * Tile::kColumns;
  const auto group_total = [&](int g) {
    float total = 0.0f;
    for (int c = g * width; c < (g + 1) * width; ++c)
      for (int down = 0; down < Tile::kWarpsDown; ++down) total += scratch[down * Tile::kColumns + c];
    return total;
  };
  const int thread = Tile::thread();
  const float count = static_cast<float>(rows * width);
  Tile::synchronize();
  column_sums<Tile>(acc, present, scratch, [](float x, int) { return x; });
  Tile::synchronize();
  for (int g = thread; g < groups; g += Tile::kThreads) means[g] = group_total(g) / count;
  Tile::synchronize();
  column_sums<Tile>(acc, present, scratch, [&](float x, int column) {
    const int g = column / width;
    const float distance = x - means[g < groups ? g : 0];
    return distance * distance;
  });
  Tile::synchronize();
  for (int g = thread; g < groups; g += Tile::kThreads)
    moments[first_column / width + g] = Moments{count, means[g], group_total(g)};
}

}  // namespace hunyuan::conv3d
