/**
 * @file hunyuan_attention_fp8.h
 * @brief C ABI: attention with FP8 products. Conventions: hunyuan_ext.h.
 */
#pragma once

#include "hunyuan_ext.h"

#if defined(__cplusplus)
extern "C" {
#endif

/** What attention_fp8 does to q and k first, as hunyuan_qk_norm_rope does; all null: nothing. Multiples of 16 bytes. */
typedef struct hunyuan_norm_rope_args {
  const void* norm[2];           /**< RMSNorm weights of q, k: [head_dim], each on its own null for no norm */
  const void* text_norm[2];      /**< the same for the text tokens, or null: `norm` serves them too */
  const float* cos;              /**< [tokens - text_tokens, head_dim], or null: no rotation */
  const float* sin;              /**< as cos */
  int64_t text_tokens;           /**< how many of the last tokens are text */
  int64_t cos_stride;            /**< from one token to the next in cos */
  int64_t sin_stride;            /**< from one token to the next in sin */
  float eps;                     /**< added to the mean square */
  enum hunyuan_dtype norm_dtype; /**< of the four weights: F32, BF16 or F16 */
} hunyuan_norm_rope_args;

/**
 * hunyuan_attention with e4m3 products (compute capability 9.0, head_dim 128): q, k and v are bf16; norm, rotation and
 * quantisation are one pass into `workspace`, a buffer on the device of hunyuan_attention_fp8_workspace(args) bytes,
 * 256-byte aligned. With a rotation or text tokens there are as many queries as keys.
 */
int hunyuan_attention_fp8(const hunyuan_attention_args* args, const hunyuan_norm_rope_args* before, void* workspace,
                          hunyuan_target target);
int64_t hunyuan_attention_fp8_workspace(const hunyuan_attention_args* args);

#if defined(__cplusplus)
}
#endif
