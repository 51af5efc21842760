// What happens to a tile of an FP8 product in registers, as straight code: every thread holds eight neighboring columns
// of the output at a time, so that scales, bias, gate, residual and result are its own 16-byte accesses, without
// shuffles, shared memory or branches by element. Which columns those are is the copy engine's work: it brings the
// weight's rows to shared memory in the order of `output_column`.
//
// For outputs of a multiple of 32 columns (128 with kQuantize) and, with a gate, tiles that lie within one clip.
#pragma once

#include "common/cuda/cuda.cuh"
#include "common/cuda/fp8.cuh"
#include "common/host/host_device.h"
#include "common/matmul/fragment.cuh"
#include "common/ptx/math.cuh"
#include "common/ptx/tma.cuh"
#include "linear/linear.h"

namespace hunyuan::linear {

// The column of the output behind column n of a strip of 32 accumulator columns. A thread holds columns
// 8 c + 2 q + e of a strip, q = lane % 4, c = 0..3, e = 0, 1: these are then columns 8 q to 8 q + 7 of the output.
HUNYUAN_HOST_DEVICE constexpr int output_column(int n) { return n % 8 / 2 * 8 + n / 8 * 2 + n % 2; }
constexpr bool threads_hold_neighbors() {
  for (int q = 0; q < 4; ++q)
    for (int i = 0; i < 8; ++i)
      if (output_column(i / 2 * 8 + 2 * q + i % 2) != 8 * q + i) return false;
  return true;
}
static_assert(threads_hold_neighbors(), "an accumulator row of a strip is 16 bytes of the output");

// How a product ends: act(product * scales + bias); kGate: times the gate, and the residual added; kQuantize: GELU,
// then codes with a scale for every row and 128 columns.
enum class End { kBias, kGelu, kGate, kQuantize };

struct StraightOutput {
  const float* row_scale;     // [rows], or null: the main loop has applied it
  const float* tensor_scale;  // one value, or null
  const float* column_scale;  // [columns]
  const __nv_bfloat16 *bias, *gate, *residual;
  bool has_column_scale, has_bias;  // if not, their pointers lead to other memory of that size: loads without branches
  void* out;
  float* out_scale;
  int64_t gate_stride;
  int rows, columns, tokens;
};

inline StraightOutput straight_output_of(const hunyuan_linear_fp8_args& args, bool promoted) {
  StraightOutput output{};
  output.row_scale = promoted ? nullptr : args.x_scale;
  output.tensor_scale = args.weight_scales == 0 ? args.weight_scale : nullptr;
  output.has_column_scale = args.weight_scales == 1, output.has_bias = args.bias != nullptr;
  output.column_scale = static_cast<const float*>(output.has_column_scale ? args.weight_scale : args.weight);
  output.bias = static_cast<const __nv_bfloat16*>(output.has_bias ? args.bias : args.weight);
  output.gate = static_cast<const __nv_bfloat16*>(args.gate);
  output.residual = static_cast<const __nv_bfloat16*>(args.residual);
  output.out = args.out, output.out_scale = args.out_scale, output.gate_stride = args.gate_stride;
  output.rows = static_cast<int>(args.rows), output.columns = static_cast<int>(args.out_columns);
  output.tokens = static_cast<int>(args.tokens);
  return output;
}

// GELU, tanh form, of two values: x / (1 + 2 ^ (x (a + b x x))), with one RCP for both, since the multifunction unit is
// what GELU waits for. At 2^60 the quotient is as good as zero, and the product of two such divisors still a number.
__device__ inline void gelu_pair(float& x, float& y) {
  constexpr float kA = -2.302208198f, kB = -0.102943240f;  // -2 sqrt(2 / pi) log2(e), and that times 0.044715
  const float p = 1.0f + ptx::exp2_fast(fminf(x * fmaf(kB, x * x, kA), 60.0f));
  const float q = 1.0f + ptx::exp2_fast(fminf(y * fmaf(kB, y * y, kA), 60.0f));
  const float inverse = ptx::reciprocal_fast(p * q);
  x *= q * inverse, y *= p * inverse;
}

__device__ inline void unpack8(const uint4& packed, float (&v)[8]) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    v[2 * i] = __uint_as_float(words[i] << 16), v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
}
__device__ inline uint4 pack8(const float (&v)[8]) {
  return make_uint4(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]),
                    ptx::pack_bf16(v[6], v[7]));
}

// What the threads of a warp need of a tile's 128 columns, spread over its lanes: loaded while the last products run,
// and then a shuffle away.
struct SpreadColumns {
  float4 scale;  // of columns 4 lane to 4 lane + 3
  uint4 pairs;   // of columns 8 lane to 8 lane + 7 of the bias; in lanes 16 to 31, of the gate

  __device__ void load(const StraightOutput& output, const __nv_bfloat16* gate, int first_column) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int four = first_column + 4 * lane, eight = first_column + 8 * (lane % 16);
    scale = *reinterpret_cast<const float4*>(output.column_scale + (four < output.columns ? four : 0));
    const __nv_bfloat16* from = lane < 16 ? output.bias : gate;
    pairs = *reinterpret_cast<const uint4*>(from + (eight < output.columns ? eight : 0));
  }
  // The eight columns of this thread in a strip.
  __device__ void scales(int strip, float (&v)[8]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int lane = strip * 8 + threadIdx.x % 4 * 2 + i;
      v[4 * i] = __shfl_sync(0xffffffffu, scale.x, lane), v[4 * i + 1] = __shfl_sync(0xffffffffu, scale.y, lane);
      v[4 * i + 2] = __shfl_sync(0xffffffffu, scale.z, lane), v[4 * i + 3] = __shfl_sync(0xffffffffu, scale.w, lane);
    }
  }
  __device__ uint4 packed(int strip, int first_lane) const {
    const int lane = first_lane + strip * 4 + threadIdx.x % 4;
    return make_uint4(__shfl_sync(0xffffffffu, pairs.x, lane), __shfl_sync(0xffffffffu, pairs.y, lane),
                      __shfl_sync(0xffffffffu, pairs.z, lane), __shfl_sync(0xffffffffu, pairs.w, lane));
  }
};

template <class Tile, End kEnd>
class StraightEpilogue {
  static constexpr int kStrips = Tile::kStrips, kFragments = Tile::kRowFragments;
  static_assert(Tile::kColumns == 128, "a tile is one block of columns, and what a warp spreads over its lanes");
  using Accumulators = typename Tile::Accumulators;

  const StraightOutput& output;
  const int first_row, first_column;  // of the tile
  float row_scale[kFragments][2];
  SpreadColumns columns;

  struct Eight {  // what eight columns of a strip need
    float scale[8], bias[8], gate[8];
  };

 public:
  __device__ StraightEpilogue(const StraightOutput& output, int first_row, int first_column)
      : output(output), first_row(first_row), first_column(first_column) {
    if constexpr (kEnd == End::kGate) prefetch_residual();
  }

  __device__ void load() {
    const float all = output.tensor_scale ? __ldg(output.tensor_scale) : 1.0f;
#pragma unroll
    for (int i = 0; i < 2 * kFragments; ++i)
      row_scale[i / 2][i % 2] =
          output.row_scale ? all * __ldg(output.row_scale + least(row_of(i / 2, i % 2), output.rows - 1)) : all;
    const __nv_bfloat16* gate = output.bias;  // read, where there is none, and not used
    if constexpr (kEnd == End::kGate)
      gate = output.gate + least(first_row, output.rows - 1) / output.tokens * output.gate_stride;
    columns.load(output, gate, first_column);
  }

  __device__ void run(Accumulators& acc, float*) const {
    if constexpr (kEnd == End::kQuantize)
      store_codes(acc);
    else
      store_rows(acc);
  }

 private:
  __device__ static int least(int a, int b) { return a < b ? a : b; }
  __device__ static int lane_first() { return static_cast<int>(threadIdx.x) % 4 * 8; }
  __device__ int row_of(int m, int half) const { return first_row + Tile::row(m) + matmul::lane_row() + half * 8; }

  // Brings this warp's rows of the residual to L2 while the products run: a row is two lines of 128 bytes.
  __device__ void prefetch_residual() const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
      const int row = least(first_row + Tile::row(m) + lane / 2, output.rows - 1);
      const int column = least(first_column + lane % 2 * 64, output.columns - 1);
      ptx::prefetch_l2(output.residual + static_cast<int64_t>(row) * output.columns + column);
    }
  }
  // Rows and columns outside of the output read the last ones inside and are not stored.
  __device__ uint4 residual_at(int row, int column) const {
    const int64_t at = static_cast<int64_t>(least(row, output.rows - 1)) * output.columns;
    return *reinterpret_cast<const uint4*>(output.residual + at + least(column, output.columns - 8));
  }

  __device__ void spread(Eight& e, int strip) const {
    columns.scales(strip, e.scale);
    unpack8(columns.packed(strip, 0), e.bias);
    if constexpr (kEnd == End::kGate) unpack8(columns.packed(strip, 16), e.gate);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      e.scale[i] = output.has_column_scale ? e.scale[i] : 1.0f;
      e.bias[i] = output.has_bias ? e.bias[i] : 0.0f;
    }
  }

  // Eight columns of a row.
  __device__ static void finish_eight(const float* d, float row_scale, const Eight& e, const uint4& residual,
                                      float (&v)[8]) {
    float added[8];
    if constexpr (kEnd == End::kGate) unpack8(residual, added);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      v[i] = fmaf(d[i / 2 * 4 + i % 2] * row_scale, e.scale[i], e.bias[i]);
      if constexpr (kEnd == End::kGelu || kEnd == End::kQuantize)
        if (i % 2) gelu_pair(v[i - 1], v[i]);
      if constexpr (kEnd == End::kGate) v[i] = fmaf(v[i], e.gate[i], added[i]);
    }
  }

  // Strip by strip; the residual of the next strip is on its way.
  __device__ void store_rows(Accumulators& acc) const {
    uint4 residual[2][kFragments][2] = {};
    const auto fetch = [&](int strip) {
#pragma unroll
      for (int i = 0; i < 2 * kFragments; ++i)
        residual[strip % 2][i / 2][i % 2] = residual_at(row_of(i / 2, i % 2), first_column + strip * 32 + lane_first());
    };
    if constexpr (kEnd == End::kGate) fetch(0);
#pragma unroll
    for (int strip = 0; strip < kStrips; ++strip) {
      const int column = first_column + strip * 32 + lane_first();
      Eight e;
      spread(e, strip);
      if constexpr (kEnd == End::kGate)
        if (strip + 1 < kStrips) fetch(strip + 1);
#pragma unroll
      for (int i = 0; i < 2 * kFragments; ++i) {
        const int m = i / 2, half = i % 2, row = row_of(m, half);
        float v[8];
        finish_eight(acc[m] + strip * 16 + half * 2, row_scale[m][half], e, residual[strip % 2][m][half], v);
        if (row < output.rows && column < output.columns)
          *reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(output.out) +
                                    static_cast<int64_t>(row) * output.columns + column) = pack8(v);
      }
      asm volatile("" ::: "memory");  // loads of the strips after the next would take registers that are not there
    }
  }

  // Fragment by fragment: a quad holds all 128 columns of its rows.
  __device__ void store_codes(Accumulators& acc) const {
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
      float most[2] = {};
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip) {
        Eight e;
        spread(e, strip);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float v[8], *d = acc[m] + strip * 16 + half * 2;
          finish_eight(d, row_scale[m][half], e, {}, v);
#pragma unroll
          for (int i = 0; i < 8; ++i) d[i / 2 * 4 + i % 2] = v[i], most[half] = fmaxf(most[half], fabsf(v[i]));
        }
      }
      store_fragment_codes(acc[m], m, most);
    }
  }

  __device__ void store_fragment_codes(const float* d, int m, const float (&most)[2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float amax = fmaxf(most[half], __shfl_xor_sync(0xffffffffu, most[half], 1));
      amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, 2));
      const float scale = device::e4m3_scale(amax), inverse = 1.0f / scale;
      const int row = row_of(m, half);
      if (row < output.rows && threadIdx.x % 4 == 0)
        output.out_scale[static_cast<int64_t>(first_column / 128) * output.rows + row] = scale;
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = d[strip * 16 + i / 2 * 4 + half * 2 + i % 2] * inverse;
        if (row < output.rows)
          *reinterpret_cast<uint2*>(static_cast<uint8_t*>(output.out) + static_cast<int64_t>(row) * output.columns +
                                    first_column + strip * 32 + lane_first()) =
              make_uint2(ptx::pack_e4m3(v[0], v[1], v[2], v[3]), ptx::pack_e4m3(v[4], v[5], v[6], v[7]));
      }
    }
  }
};

}  // namespace hunyuan::linear
