/**
 * @file hunyuan_moments.h
 * @brief C ABI: statistics of a volume that arrives in pieces. Conventions: hunyuan_ext.h.
 */
#pragma once

#include "hunyuan_ext.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * Adds the sums of a piece of a channels-last volume to running totals: [3, channels] in float64, a value near the mean
 * (chosen here when `seen` is 0), the sum of the distances from it and the sum of their squares. CPU only; pieces are
 * cut independently of the thread count. The totals of all channels of a group give its mean and variance.
 */
typedef struct hunyuan_channel_moments_args {
  const void* x;            /**< [positions, channels], contiguous */
  double* totals;           /**< [3, channels], read (unless seen is 0) and written */
  int64_t positions;        /**< T * H * W of the piece */
  int64_t channels;         /**< C */
  int64_t seen;             /**< positions added before */
  enum hunyuan_dtype dtype; /**< of x: F32 or BF16 */
} hunyuan_channel_moments_args;

int hunyuan_channel_moments(const hunyuan_channel_moments_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif
