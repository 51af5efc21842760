// Two-level accumulation: the product of 128 columns of K, which the tensor cores add up in about 22 bits, is
// multiplied by its scales and added to float32 sums. Needed for scales that change along K and for long K (8192 and
// more).
#pragma once

#include "common/matmul/fragment.cuh"
#include "linear/linear.h"

namespace hunyuan::linear {

constexpr int kStepColumns = 128;       // of K: one scale block, one step of the main loop
constexpr int64_t kPromoteFrom = 8192;  // columns of K

struct StepScales {
  static constexpr bool kNone = false;
  const float* x;       // [steps, rows], or [rows] with x_step 0
  const float* x_tail;  // of the steps from head_steps on
  int64_t x_step;       // from one step to the next
  int head_steps;
  const float* weight;  // of this tile's block of columns: [steps]; or null: applied in the epilogue
  int rows, first_row;  // of the matrix, of the tile

  __device__ float weight_at(int step) const { return weight ? __ldg(weight + step) : 1.0f; }
  __device__ float x_at(int step, int row_in_tile) const {
    const int row = first_row + row_in_tile;
    const float* scale = step < head_steps ? x + step * x_step : x_tail + (step - head_steps) * x_step;
    return row < rows ? __ldg(scale + row) : 0.0f;
  }
};

// acc += part * scale for the rows of one fragment row; kFloats: 16 for each fragment across.
template <int kFloats>
__device__ void promote(float* acc, const float* part, float upper_scale, float lower_scale) {
#pragma unroll
  for (int i = 0; i < kFloats; ++i) acc[i] = fmaf(part[i], i / 2 % 2 ? lower_scale : upper_scale, acc[i]);
}

inline bool needs_promotion(const hunyuan_linear_fp8_args& args) {
  return args.x_block != 0 || args.weight_scales == kStepColumns || args.in_columns >= kPromoteFrom;
}

// The scales of the tile that starts at (first_row, first_column).
__device__ inline StepScales step_scales(const hunyuan_linear_fp8_args& args, int first_row, int first_column) {
  const int64_t steps = (args.in_columns + kStepColumns - 1) / kStepColumns;
  const int64_t head = args.x_tail ? args.head_columns / kStepColumns : steps;
  return {args.x_scale,
          args.x_tail_scale,
          args.x_block ? args.rows : 0,
          static_cast<int>(head),
          args.weight_scales == kStepColumns ? args.weight_scale + first_column / kStepColumns * steps : nullptr,
          static_cast<int>(args.rows),
          first_row};
}

}  // namespace hunyuan::linear
