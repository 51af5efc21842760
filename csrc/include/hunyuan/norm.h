/**
 * @file hunyuan/norm.h
 * @brief C ABI: norms, modulation and the GELU, with their gradients. Conventions: hunyuan/types.h.
 *
 * Gradients: sums over tokens are cut into pieces that depend on sizes alone and added in order, so that any thread
 * count gives the same bits. The same holds for those of attention.
 */
#pragma once

#include "hunyuan/types.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * out = layer_norm(x) * (1 + scale) + shift over the last dimension, statistics in float32.
 * x, shift, scale and out share `dtype` (F32, BF16; F16 on CUDA).
 */
typedef struct hunyuan_layer_norm_modulate_args {
  const void* x;              /**< [batch, tokens, channels] */
  const void* shift;          /**< [batch, channels] */
  const void* scale;          /**< [batch, channels] */
  void* out;                  /**< [batch, tokens, channels], contiguous */
  int64_t batch;              /**< B */
  int64_t tokens;             /**< S */
  int64_t channels;           /**< C */
  int64_t x_batch_stride;     /**< from one sample of x to the next */
  int64_t x_token_stride;     /**< from one token of x to the next */
  int64_t shift_batch_stride; /**< from one sample of shift to the next */
  int64_t scale_batch_stride; /**< from one sample of scale to the next */
  float eps;                  /**< added to the variance */
  enum hunyuan_dtype dtype;
  float* out_scale; /**< null; or [batch, tokens] (CUDA): out is then E4M3, its values out * out_scale */
} hunyuan_layer_norm_modulate_args;

HUNYUAN_API int hunyuan_layer_norm_modulate(const hunyuan_layer_norm_modulate_args* args, hunyuan_target target);

/** out = x + gate * y, in float32 with one rounding; x, y, gate and out share `dtype` (F32, BF16; F16 on CUDA). */
typedef struct hunyuan_gate_residual_args {
  const void* x;             /**< [batch, tokens, channels] */
  const void* y;             /**< [batch, tokens, channels] */
  const void* gate;          /**< [batch, channels] */
  void* out;                 /**< [batch, tokens, channels], contiguous; may be x or y when that is contiguous */
  int64_t batch;             /**< B */
  int64_t tokens;            /**< S */
  int64_t channels;          /**< C */
  int64_t x_batch_stride;    /**< from one sample of x to the next */
  int64_t x_token_stride;    /**< from one token of x to the next */
  int64_t y_batch_stride;    /**< from one sample of y to the next */
  int64_t y_token_stride;    /**< from one token of y to the next */
  int64_t gate_batch_stride; /**< from one sample of gate to the next */
  enum hunyuan_dtype dtype;
} hunyuan_gate_residual_args;

HUNYUAN_API int hunyuan_gate_residual(const hunyuan_gate_residual_args* args, hunyuan_target target);

/**
 * out = pad_causal(silu(group_norm(x))): statistics over (channels / groups, frames, rows, columns) in chunks that are
 * merged in float64 in a fixed order, so neither the thread count nor the mean of x costs digits. F32, BF16 and, on
 * CUDA, F16. CUDA takes channels-last volumes of at most 2048 two-byte channels, a multiple of 16 bytes.
 */
typedef struct hunyuan_group_norm_silu_args {
  const void* x;                   /**< [B, C, T, H, W], or [B, T, H, W, C] when channels_last; contiguous */
  const void* weight;              /**< [channels] or null */
  const void* bias;                /**< [channels] or null */
  void* out;                       /**< the padded volume, in the layout of x, contiguous */
  int64_t batch;                   /**< B */
  int64_t channels;                /**< C */
  int64_t frames;                  /**< T */
  int64_t rows;                    /**< H */
  int64_t columns;                 /**< W */
  int64_t groups;                  /**< divides channels */
  int64_t pad_frames;              /**< as in hunyuan_pad_causal_args */
  int64_t pad_rows;                /**< as in hunyuan_pad_causal_args */
  int64_t pad_columns;             /**< as in hunyuan_pad_causal_args */
  float eps;                       /**< added to the variance */
  int silu;                        /**< 0: normalize only */
  int channels_last;               /**< layout of x and out */
  enum hunyuan_dtype dtype;        /**< of x and out */
  enum hunyuan_dtype affine_dtype; /**< of weight and bias: F32 or BF16; F16 on CUDA */
  const float* moments;            /**< CUDA: null, or the statistics of x that causal_conv3d left:
                                        [batch, moment_chunks, groups, 3] count, mean, sum of squared distances */
  int64_t moment_chunks;           /**< chunks of a sample in `moments` */
  void* workspace;                 /**< CUDA: hunyuan_group_norm_silu_workspace bytes, aligned to 16 */
  const float* affine;             /**< CPU: null, or [batch, 3, channels]: out = silu((x - affine[0]) * affine[1] +
                                        affine[2]), with statistics known from elsewhere; weight, bias and eps are
                                        then not read */
} hunyuan_group_norm_silu_args;

/** Bytes of `workspace`: 0 on the CPU. */
HUNYUAN_API int64_t hunyuan_group_norm_silu_workspace(const hunyuan_group_norm_silu_args* args, hunyuan_target target);
HUNYUAN_API int hunyuan_group_norm_silu(const hunyuan_group_norm_silu_args* args, hunyuan_target target);

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

HUNYUAN_API int hunyuan_channel_moments(const hunyuan_channel_moments_args* args, hunyuan_target target);

/** Gradients of hunyuan_layer_norm_modulate; everything has the type `dtype` (F32, BF16). */
typedef struct hunyuan_layer_norm_modulate_backward_args {
  const void* grad_out;       /**< [batch, tokens, channels] */
  const void* x;              /**< [batch, tokens, channels] */
  const void* scale;          /**< [batch, channels] */
  void* grad_x;               /**< [batch, tokens, channels], contiguous */
  void* grad_shift;           /**< [batch, channels], contiguous */
  void* grad_scale;           /**< [batch, channels], contiguous */
  int64_t batch;              /**< B */
  int64_t tokens;             /**< S */
  int64_t channels;           /**< C */
  int64_t grad_stride[2];     /**< of grad_out: {batch, token} */
  int64_t x_stride[2];        /**< of x: {batch, token} */
  int64_t scale_batch_stride; /**< from one sample of scale to the next */
  float eps;                  /**< added to the variance */
  enum hunyuan_dtype dtype;
} hunyuan_layer_norm_modulate_backward_args;

HUNYUAN_API int hunyuan_layer_norm_modulate_backward(const hunyuan_layer_norm_modulate_backward_args* args,
                                                     hunyuan_target target);

/** Gradients of y and gate in hunyuan_gate_residual (that of x is grad_out); one type, F32 or BF16. */
typedef struct hunyuan_gate_residual_backward_args {
  const void* grad_out;      /**< [batch, tokens, channels] */
  const void* y;             /**< [batch, tokens, channels] */
  const void* gate;          /**< [batch, channels] */
  void* grad_y;              /**< [batch, tokens, channels], contiguous */
  void* grad_gate;           /**< [batch, channels], contiguous */
  int64_t batch;             /**< B */
  int64_t tokens;            /**< S */
  int64_t channels;          /**< C */
  int64_t grad_stride[2];    /**< of grad_out: {batch, token} */
  int64_t y_stride[2];       /**< of y: {batch, token} */
  int64_t gate_batch_stride; /**< from one sample of gate to the next */
  enum hunyuan_dtype dtype;
} hunyuan_gate_residual_backward_args;

HUNYUAN_API int hunyuan_gate_residual_backward(const hunyuan_gate_residual_backward_args* args, hunyuan_target target);

/** out = gelu(x), tanh form; with grad_out: out = grad_out * gelu'(x). One type, F32 or BF16. */
typedef struct hunyuan_gelu_args {
  const void* x;        /**< [rows, columns] */
  const void* grad_out; /**< [rows, columns], or null */
  void* out;            /**< [rows, columns] */
  int64_t rows;         /**< B * S */
  int64_t columns;      /**< C */
  int64_t x_stride;     /**< from one row to the next */
  int64_t grad_stride;  /**< as x_stride */
  int64_t out_stride;   /**< as x_stride */
  enum hunyuan_dtype dtype;
} hunyuan_gelu_args;

HUNYUAN_API int hunyuan_gelu(const hunyuan_gelu_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif
