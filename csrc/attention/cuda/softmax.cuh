// Online softmax over the accumulators of one product Q K^T: a lane holds two rows (r and r + 8) of every group of
// eight columns; four neighboring lanes share a row. Used by the sm_80 and sm_90a kernels.
#pragma once

#include <math_constants.h>
#include <stdint.h>

#include "common/ptx/fragment.h"
#include "common/ptx/math.cuh"

namespace hunyuan::attention {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Maximum and sum of the two rows of a lane. factor[row] > 0 turns a raw product into an exponent of two; `maximum` is
// in exponents. Probabilities are 2 ^ (exponent - maximum + kBias): a bias uses the range of an 8-bit format, and
// cancels in the normalization. `total` is this lane's share until `finish`.
template <int kBias = 0>
struct RowSoftmax {
  float maximum[2];
  float total[2];

  // Starts with the scores of the first visited tile, which become probabilities relative to `maximum`.
  template <int kCount>
  __device__ void first(float (&scores)[kCount], const float (&factor)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      maximum[row] = row_maximum(scores, row) * factor[row];
      total[row] = exponentiate(scores, row, factor[row]);
    }
  }

  // A further tile; what was accumulated before must be multiplied by `correction`.
  template <int kCount>
  __device__ void next(float (&scores)[kCount], const float (&factor)[2], float (&correction)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float before = maximum[row];
      maximum[row] = fmaxf(before, row_maximum(scores, row) * factor[row]);
      correction[row] = ptx::exp2_fast(before - maximum[row]);
      total[row] = total[row] * correction[row] + exponentiate(scores, row, factor[row]);
    }
  }

  // Sums over the four lanes of a row; then `inverse` normalizes it. A row without keys stays zero.
  __device__ void finish(float (&inverse)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      total[row] = quad_sum(total[row]);
      inverse[row] = total[row] == 0.0f ? 0.0f : 1.0f / total[row];
    }
  }

  // log(sum(exp(scaled score))) of a finished row.
  __device__ float log_sum_exp(int row) const {
    return total[row] == 0.0f ? -CUDART_INF_F : (maximum[row] - kBias) * kLn2 + __logf(total[row]);
  }

 private:
  template <int kCount>
  __device__ static float row_maximum(const float (&scores)[kCount], int row) {
    float result = -CUDART_INF_F;
#pragma unroll
    for (int i = 2 * row; i < kCount; i += 4) result = fmaxf(result, fmaxf(scores[i], scores[i + 1]));
    return quad_max(result);
  }

  template <int kCount>
  __device__ float exponentiate(float (&scores)[kCount], int row, float factor) {
    const float shift = kBias - maximum[row];
    float sum = 0.0f;
#pragma unroll
    for (int i = 2 * row; i < kCount; i += 4) {
      scores[i] = ptx::exp2_fast(fmaf(scores[i], factor, shift));
      scores[i + 1] = ptx::exp2_fast(fmaf(scores[i + 1], factor, shift));
      sum += scores[i] + scores[i + 1];
    }
    return sum;
  }
};

// Hides the columns from `valid` on.
template <int kCount>
__device__ void mask_columns(float (&scores)[kCount], int valid, int lane) {
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    if (ptx::accumulator_column(lane, i) >= valid) scores[i] = -CUDART_INF_F;
}

template <int kCount>
__device__ void rescale_rows(float (&out)[kCount], const float (&correction)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] *= correction[i / 2 % 2];
}

// Probabilities as the 16-bit A operand of the product with V (fragment.h says why no lane has to move).
template <int kCount>
__device__ void pack_probabilities(const float (&scores)[kCount], uint32_t (&packed)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) packed[i] = ptx::pack_bf16(scores[2 * i], scores[2 * i + 1]);
}

// The same as the 8-bit A operand, for values whose keys are stored in the order of key_of_position.
template <int kCount>
__device__ void pack_probabilities(const float (&scores)[kCount], uint32_t (&packed)[kCount / 4]) {
#pragma unroll
  for (int j = 0; j < kCount / 4; ++j)
    packed[j] = ptx::pack_e4m3(scores[ptx::accumulator_of_operand8(j, 0)], scores[ptx::accumulator_of_operand8(j, 1)],
                               scores[ptx::accumulator_of_operand8(j, 2)], scores[ptx::accumulator_of_operand8(j, 3)]);
}

}  // namespace hunyuan::attention
