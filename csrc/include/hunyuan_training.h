/**
 * @file hunyuan_training.h
 * @brief C ABI: gradients, for training on a CPU. Conventions: hunyuan_ext.h. Sums over tokens are cut into pieces that
 * depend on sizes alone and added in order: any thread count gives the same bits.
 */
#pragma once

#include "hunyuan_ext.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * Gradients of hunyuan_rope_attention: BF16, on HUNYUAN_UNIT_AMX, without a block list. Weights are recomputed from
 * `forward.lse`, which that call wrote. A row of q without use, and keys from kv_len on, get zeros.
 */
typedef struct hunyuan_rope_attention_backward_args {
  hunyuan_rope_attention_args forward; /**< as that call had them; out and lse are its results */
  const void* grad_out;                /**< [batch, tokens, heads, head_dim] */
  void* grad[3];                       /**< of q, k and v, [batch, tokens, heads, head_dim] each */
  float* grad_norm[2];                 /**< of forward.norm, [head_dim] each; null where that is */
  float* grad_text_norm[2];            /**< of forward.text_norm */
  int64_t grad_out_stride[3];          /**< {batch, token, head} */
  int64_t grad_stride[3];              /**< of all three in grad */
} hunyuan_rope_attention_backward_args;

int hunyuan_rope_attention_backward(const hunyuan_rope_attention_backward_args* args, hunyuan_target target);

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

int hunyuan_layer_norm_modulate_backward(const hunyuan_layer_norm_modulate_backward_args* args, hunyuan_target target);

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

int hunyuan_gate_residual_backward(const hunyuan_gate_residual_backward_args* args, hunyuan_target target);

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

int hunyuan_gelu(const hunyuan_gelu_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif
