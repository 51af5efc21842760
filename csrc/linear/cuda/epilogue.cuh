// What happens to a tile of an FP8 product in registers: scales, bias, GELU, gate, residual, and the store as bfloat16
// or, with a scale for every row and 128 columns, as float8_e4m3fn. Shared by the mma.sync and the wgmma kernel.
#pragma once

#include "common/cuda/cuda.cuh"
#include "common/cuda/fp8.cuh"
#include "common/matmul/fragment.cuh"
#include "linear/cuda/gelu.cuh"
#include "linear/linear.h"

namespace hunyuan::linear {

struct Output {
  const float* row_scale;     // [rows], or null: the main loop has applied it
  const float* column_scale;  // [columns] or one value, or null: the main loop has applied it
  const __nv_bfloat16 *bias, *gate, *residual;
  void* out;
  float* out_scale;  // [ceil(columns / 128), rows], or null
  int64_t gate_stride;
  int rows, columns, tokens;
  bool scale_per_column, gelu;
};

// `promoted`: the main loop has multiplied by the scales of x, and by those of the weight when they are by block.
inline Output output_of(const hunyuan_linear_fp8_args& args, bool promoted) {
  Output output{};
  output.row_scale = promoted ? nullptr : args.x_scale;
  output.column_scale = args.weight_scales == 128 ? nullptr : args.weight_scale;
  output.scale_per_column = args.weight_scales == 1;
  output.bias = static_cast<const __nv_bfloat16*>(args.bias),
  output.gate = static_cast<const __nv_bfloat16*>(args.gate);
  output.residual = static_cast<const __nv_bfloat16*>(args.residual);
  output.out = args.out, output.out_scale = args.out_scale, output.gate_stride = args.gate_stride;
  output.rows = static_cast<int>(args.rows), output.columns = static_cast<int>(args.out_columns);
  output.tokens = static_cast<int>(args.tokens), output.gelu = args.gelu != 0;
  return output;
}

__device__ inline float2 pair_at(const __nv_bfloat16* values, int64_t i) {
  return matmul::PairOf<__nv_bfloat16>::unpack(__ldg(reinterpret_cast<const uint32_t*>(values + i)));
}

// This thread's part of the residual of a fragment, 16 bytes of each of its two rows; zeros outside of the output.
__device__ inline void load_residual(const Output& output, int first_row, int first_column, uint32_t (&r)[2][4]) {
  const int column = first_column + threadIdx.x % 4 * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + matmul::lane_row() + half * 8;
    matmul::load8(output.residual + static_cast<int64_t>(row) * output.columns, column,
                  row < output.rows && column < output.columns, r[half]);
  }
}

// residual + gate * act(d * scales + bias) of a fragment whose first row and column these are; columns come in eights,
// so a chunk is inside or outside as a whole.
__device__ inline void finish_fragment(const Output& output, float* d, uint32_t (&residual)[2][4], int first_row,
                                       int first_column) {
  using namespace matmul;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + lane_row() + half * 8;
    const bool row_present = row < output.rows;
    const float row_scale = output.row_scale && row_present ? __ldg(output.row_scale + row) : 1.0f;
    const __nv_bfloat16* gate =
        output.gate && row_present ? output.gate + row / output.tokens * output.gate_stride : nullptr;
#pragma unroll
    for (int chunk = 0; chunk < 4; ++chunk) {
      const int column = first_column + chunk * 8 + lane_column();
      float* pair = d + chunk * 4 + half * 2;
      if (column >= output.columns) {
        pair[0] = pair[1] = 0.0f;
        continue;
      }
      float2 scale = make_float2(row_scale, row_scale);
      if (output.column_scale) {
        const float2 columns = output.scale_per_column
                                   ? __ldg(reinterpret_cast<const float2*>(output.column_scale + column))
                                   : make_float2(__ldg(output.column_scale), __ldg(output.column_scale));
        scale.x *= columns.x, scale.y *= columns.y;
      }
      const float2 bias = output.bias ? pair_at(output.bias, column) : make_float2(0.0f, 0.0f);
      pair[0] = fmaf(pair[0], scale.x, bias.x), pair[1] = fmaf(pair[1], scale.y, bias.y);
      if (output.gelu) pair[0] = gelu_tanh(pair[0]), pair[1] = gelu_tanh(pair[1]);
      if (gate) {
        const float2 factor = pair_at(gate, column);
        pair[0] *= factor.x, pair[1] *= factor.y;
      }
    }
    if (output.residual) add_row<__nv_bfloat16>(d, half, residual[half]);
  }
}

__device__ inline void store_fragment(const Output& output, const float* d, int first_row, int first_column) {
  using namespace matmul;
  const int quad_column = first_column + threadIdx.x % 4 * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + lane_row() + half * 8;
    uint32_t r[4];
    pack_row<__nv_bfloat16>(d, half, r);
    store8(static_cast<__nv_bfloat16*>(output.out) + static_cast<int64_t>(row) * output.columns, quad_column,
           row < output.rows && quad_column < output.columns, r);
  }
}

// The codes of half a fragment in memory order: 8 bytes at column 8 q of this thread's row.
__device__ inline uint2 e4m3_row(const float* d, int half, float inverse_scale) {
  uint32_t r[4];
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    const float* pair = d + chunk * 4 + half * 2;
    r[chunk] = device::e4m3_pair(pair[0] * inverse_scale, pair[1] * inverse_scale);
  }
  matmul::quad_transpose(r);
  return make_uint2(r[0] | r[1] << 16, r[2] | r[3] << 16);
}

// Stores the tile as codes, one scale for each row of its 128 columns. scratch: kWarpsAcross * kRows floats.
template <class Tile>
__device__ void store_quantized(const Output& output, typename Tile::Accumulators& acc, int first_row, int first_column,
                                float* scratch) {
  static_assert(Tile::kColumns == 128, "a tile is one block of columns");
  using namespace matmul;
  float amax[Tile::kRowFragments][2];
  Tile::synchronize();
#pragma unroll
  for (int m = 0; m < Tile::kRowFragments; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float& most = amax[m][half];
      most = 0.0f;
#pragma unroll
      for (int i = 0; i < Tile::kStrips * 8; ++i) most = fmaxf(most, fabsf(acc[m][i / 2 * 4 + half * 2 + i % 2]));
      for (int lanes = 1; lanes < 4; lanes *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, lanes));
      const int row = Tile::row(m) + lane_row() + half * 8;
      if (threadIdx.x % 4 == 0) scratch[Tile::warp_across() * Tile::kRows + row] = most;
    }
  Tile::synchronize();
#pragma unroll
  for (int m = 0; m < Tile::kRowFragments; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int in_tile = Tile::row(m) + lane_row() + half * 8, row = first_row + in_tile;
      float most = amax[m][half];
      for (int across = 0; across < Tile::kWarpsAcross; ++across)
        most = fmaxf(most, scratch[across * Tile::kRows + in_tile]);
      const float scale = device::e4m3_scale(most);
      const bool present = row < output.rows;
      if (present && Tile::warp_across() == 0 && threadIdx.x % 4 == 0)
        output.out_scale[static_cast<int64_t>(first_column / Tile::kColumns) * output.rows + row] = scale;
#pragma unroll
      for (int strip = 0; strip < Tile::kStrips; ++strip) {
        const uint2 codes = e4m3_row(acc[m] + strip * kFragmentFloats, half, 1.0f / scale);
        const int column = first_column + Tile::column(strip) + threadIdx.x % 4 * 8;
        if (present && column < output.columns)
          *reinterpret_cast<uint2*>(static_cast<uint8_t*>(output.out) + static_cast<int64_t>(row) * output.columns +
                                    column) = codes;
      }
    }
}

// All of it for one tile, whose threads all call this. The residuals of a row of fragments are loaded before any of
// them is stored: one wait for memory instead of one for each.
template <class Tile>
__device__ void finish_tile(const Output& output, typename Tile::Accumulators& acc, int first_row, int first_column,
                            float* scratch) {
#pragma unroll
  for (int m = 0; m < Tile::kRowFragments; ++m) {
    const int row = first_row + Tile::row(m);
    uint32_t residual[Tile::kStrips][2][4] = {};
    if (output.residual) {
#pragma unroll
      for (int strip = 0; strip < Tile::kStrips; ++strip)
        load_residual(output, row, first_column + Tile::column(strip), residual[strip]);
    }
#pragma unroll
    for (int strip = 0; strip < Tile::kStrips; ++strip) {
      float* d = acc[m] + strip * matmul::kFragmentFloats;
      const int column = first_column + Tile::column(strip);
      finish_fragment(output, d, residual[strip], row, column);
      if (!output.out_scale) store_fragment(output, d, row, column);
    }
  }
  if (output.out_scale) store_quantized<Tile>(output, acc, first_row, first_column, scratch);
}

}  // namespace hunyuan::linear
