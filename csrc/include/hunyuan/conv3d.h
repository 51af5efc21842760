/**
 * @file hunyuan/conv3d.h
 * @brief C ABI: causal 3D convolution and its padding. Conventions: hunyuan/types.h.
 */
#pragma once

#include "hunyuan/types.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * Replicate padding of a causal convolution: `pad_frames` copies of the first frame in front and none behind,
 * `pad_rows` and `pad_columns` copies of the border on both sides. Moves whole cells, so any element type works.
 * A cell is what is contiguous at one position: one element of an NCDHW tensor (planes = B * C), all channels of a
 * channels-last one (planes = B).
 */
typedef struct hunyuan_pad_causal_args {
  const void* x;       /**< [planes, frames, rows, columns] cells, contiguous */
  void* out;           /**< [planes, frames + pad_frames, rows + 2 pad_rows, columns + 2 pad_columns] cells */
  int64_t planes;      /**< B * C, or B for channels-last */
  int64_t frames;      /**< T */
  int64_t rows;        /**< H */
  int64_t columns;     /**< W */
  int64_t cell_bytes;  /**< size of a cell in bytes */
  int64_t pad_frames;  /**< kernel frames - 1 */
  int64_t pad_rows;    /**< kernel rows / 2 */
  int64_t pad_columns; /**< kernel columns / 2 */
} hunyuan_pad_causal_args;

HUNYUAN_API int hunyuan_pad_causal(const hunyuan_pad_causal_args* args, hunyuan_target target);

/**
 * out = conv(x) + bias + residual: x already carries its padding (pad_causal, group_norm_silu), so there is none here.
 * float32 sums, one rounding. Channels-last, contiguous. CUDA: an implicit matrix product on tensor cores; x and weight
 * start at multiples of 16 bytes. CPU: direct, on any processor, without moments.
 */
typedef struct hunyuan_causal_conv3d_args {
  const void* x;                 /**< [batch, frames, rows, columns, channels] */
  const void* weight;            /**< [out_channels, kernel[0], kernel[1], kernel[2], channels] */
  const void* bias;              /**< [out_channels], or null */
  const void* residual;          /**< as out, or null; may be out */
  void* out;                     /**< [batch, frames', rows', columns', out_channels], n' = (n - kernel) / stride + 1 */
  float* moments;                /**< null, or the statistics of out for the next group_norm_silu:
                                      [batch, hunyuan_causal_conv3d_moment_chunks, groups, 3]; CUDA only */
  int64_t batch;                 /**< B */
  int64_t channels;              /**< C; CUDA: a multiple of 8 */
  int64_t out_channels;          /**< N */
  int64_t frames;                /**< T of x, with its padding */
  int64_t rows;                  /**< H of x, with its padding */
  int64_t columns;               /**< W of x, with its padding */
  int64_t kernel[3];             /**< frames, rows, columns; at most 64 taps */
  int64_t stride[3];             /**< frames, rows, columns; 1 or 2 */
  int64_t groups;                /**< of the moments; out_channels / groups divides 128 or 32 */
  enum hunyuan_dtype dtype;      /**< of x, weight, residual and out: BF16; F16 (CUDA); F32 (CPU) */
  enum hunyuan_dtype bias_dtype; /**< of bias: `dtype` or F32 */
} hunyuan_causal_conv3d_args;

HUNYUAN_API int hunyuan_causal_conv3d(const hunyuan_causal_conv3d_args* args, hunyuan_target target);
/** Chunks of a sample in `moments`, on this device; it depends on the shape and the architecture. */
HUNYUAN_API int64_t hunyuan_causal_conv3d_moment_chunks(const hunyuan_causal_conv3d_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif
