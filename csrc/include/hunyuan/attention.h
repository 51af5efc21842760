/**
 * @file hunyuan/attention.h
 * @brief C ABI: attention with RMSNorm and rotary embedding of q and k. Conventions: hunyuan/types.h.
 */
#pragma once

#include "hunyuan/types.h"

#if defined(__cplusplus)
extern "C" {
#endif

/** Arithmetic units of the CPU attention. */
enum hunyuan_attention_unit {
  HUNYUAN_UNIT_FLOAT = 0,    /**< float32, at the level in use */
  HUNYUAN_UNIT_BF16 = 1,     /**< AVX512-BF16: bfloat16 products, float32 sums */
  HUNYUAN_UNIT_AMX = 2,      /**< AMX-BF16: the same on tiles of registers */
  HUNYUAN_UNIT_AMX_SPLIT = 3 /**< AMX-BF16: float32 as sums of three bfloat16 numbers, six products for one */
};

/** Whether this build has kernels for `unit`, and this processor, at the level in use, can run them. */
HUNYUAN_API int hunyuan_has_attention_unit(enum hunyuan_attention_unit unit);

/**
 * out = softmax(scale * q' k'^T) v for every head, where ' is RMSNorm, then rotary embedding of the first
 * tokens - text_tokens tokens, in float32 with one rounding to the unit's type. F32 and BF16, CPU. Strides are
 * {batch, token, head}. Keys from kv_len on are never read. A query without keys gives zeros.
 */
typedef struct hunyuan_rope_attention_args {
  const void* q;                    /**< [batch, tokens, heads, head_dim] */
  const void* k;                    /**< [batch, tokens, heads, head_dim] */
  const void* v;                    /**< [batch, tokens, heads, head_dim] */
  void* out;                        /**< [batch, tokens, heads, head_dim], contiguous */
  const void* norm[2];              /**< as in hunyuan_qk_norm_rope_args, each on its own null for no norm */
  const void* text_norm[2];         /**< as in hunyuan_qk_norm_rope_args */
  const float* cos;                 /**< [tokens - text_tokens, head_dim], or null: no rotation */
  const float* sin;                 /**< as cos */
  float* lse;                       /**< [batch, heads, tokens] log2 of a query's sum of exponentials, or null; AMX */
  const int64_t* kv_len;            /**< [batch] keys to attend to, 1..tokens; or null: all */
  const int32_t* row_starts;        /**< block mask: [mask_rows + 1]; or null: all keys */
  const int32_t* key_blocks;        /**< block mask: [mask_pairs], ascending blocks of each row */
  int64_t mask_rows;                /**< rows of the mask; they must cover all queries */
  int64_t mask_pairs;               /**< length of key_blocks */
  int64_t query_tile;               /**< queries of a row of the mask */
  int64_t key_tile;                 /**< keys of a block of the mask */
  int64_t batch;                    /**< B */
  int64_t tokens;                   /**< S */
  int64_t heads;                    /**< H */
  int64_t head_dim;                 /**< D: a multiple of 16 up to 128 */
  int64_t text_tokens;              /**< how many of the last tokens are text */
  int64_t q_stride[3];              /**< of q */
  int64_t k_stride[3];              /**< of k */
  int64_t v_stride[3];              /**< of v */
  int64_t cos_stride;               /**< from one token to the next in cos */
  int64_t sin_stride;               /**< from one token to the next in sin */
  float scale;                      /**< positive */
  float eps;                        /**< added to the mean square */
  enum hunyuan_dtype dtype;         /**< of q, k, v and out */
  enum hunyuan_dtype norm_dtype;    /**< of the four weights: F32 or BF16 */
  enum hunyuan_attention_unit unit; /**< what multiplies */
} hunyuan_rope_attention_args;

HUNYUAN_API int hunyuan_rope_attention(const hunyuan_rope_attention_args* args, hunyuan_target target);

/**
 * Gradients of hunyuan_rope_attention: BF16, on HUNYUAN_UNIT_AMX, without a block mask. Weights are recomputed from
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

HUNYUAN_API int hunyuan_rope_attention_backward(const hunyuan_rope_attention_backward_args* args,
                                                hunyuan_target target);

/**
 * The pass before attention, for q and k at once: RMSNorm of every token over head_dim, then rotary embedding of
 * interleaved pairs on the first tokens - text_tokens (video) tokens. Float32 inside, one rounding. F32 and BF16, CPU.
 */
typedef struct hunyuan_qk_norm_rope_args {
  const void* in[2];             /**< q, k: [batch, tokens, heads, head_dim] */
  void* out[2];                  /**< q, k: [batch, tokens, heads, head_dim]; may be `in`, with its strides */
  const void* norm[2];           /**< RMSNorm weights of q, k: [head_dim], or both null: no norm */
  const void* text_norm[2];      /**< the same for the text tokens, or null: `norm` serves them too */
  const float* cos;              /**< [tokens - text_tokens, head_dim], or null: no rotation */
  const float* sin;              /**< as cos */
  int64_t batch;                 /**< B */
  int64_t tokens;                /**< S, video and text */
  int64_t heads;                 /**< H */
  int64_t head_dim;              /**< D; even when there is a rotation */
  int64_t text_tokens;           /**< how many of the last tokens are text */
  int64_t in_batch_stride[2];    /**< q, k: from one sample to the next */
  int64_t in_token_stride[2];    /**< q, k: from one token to the next */
  int64_t in_head_stride[2];     /**< q, k: from one head to the next */
  int64_t out_batch_stride[2];   /**< as in_batch_stride */
  int64_t out_token_stride[2];   /**< as in_token_stride */
  int64_t out_head_stride[2];    /**< as in_head_stride */
  int64_t cos_stride;            /**< from one token to the next in cos */
  int64_t sin_stride;            /**< from one token to the next in sin */
  float eps;                     /**< added to the mean square */
  enum hunyuan_dtype dtype;      /**< of q, k and their outputs */
  enum hunyuan_dtype norm_dtype; /**< of the four weights: F32 or BF16 */
} hunyuan_qk_norm_rope_args;

HUNYUAN_API int hunyuan_qk_norm_rope(const hunyuan_qk_norm_rope_args* args, hunyuan_target target);

/**
 * out = softmax(scale * q k^T) v for every head, CUDA only. Strides are {batch, token, head}, multiples of 8; addresses
 * are multiples of 16 bytes. Queries and keys are counted separately, so that a rank may hold a part of the keys and
 * merge by `lse`. A query without keys gives zeros and a log-sum-exp of minus infinity.
 */
typedef struct hunyuan_attention_args {
  const void* q;             /**< [batch, queries, heads, head_dim] */
  const void* k;             /**< [batch, keys, heads, head_dim] */
  const void* v;             /**< [batch, keys, heads, head_dim] */
  void* out;                 /**< [batch, queries, heads, head_dim] */
  float* lse;                /**< [batch, heads, queries], contiguous: log(sum(exp(scale * q k^T))); or null */
  const int32_t* kv_len;     /**< [batch] keys to attend to, on the device, limited to 0..keys; or null: all */
  const int32_t* row_starts; /**< block mask: [ceil(queries / query_tile) + 1], on the device; or null: all keys */
  const int32_t* key_blocks; /**< block mask: ascending blocks of each row */
  int64_t query_tile;        /**< queries of a row of the mask, a multiple of 128 */
  int64_t key_tile;          /**< keys of a block of the mask, a multiple of 128 */
  int64_t batch;             /**< B */
  int64_t queries;           /**< tokens of q and out */
  int64_t keys;              /**< tokens of k and v */
  int64_t heads;             /**< H */
  int64_t head_dim;          /**< D: 64 or 128 */
  int64_t q_stride[3];       /**< of q */
  int64_t k_stride[3];       /**< of k */
  int64_t v_stride[3];       /**< of v */
  int64_t out_stride[3];     /**< of out */
  float scale;               /**< positive */
  enum hunyuan_dtype dtype;  /**< of q, k, v and out: BF16 */
} hunyuan_attention_args;

HUNYUAN_API int hunyuan_attention(const hunyuan_attention_args* args, hunyuan_target target);

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
 * quantization are one pass into `workspace`, a buffer on the device of hunyuan_attention_fp8_workspace(args) bytes,
 * 256-byte aligned. With a rotation or text tokens there are as many queries as keys.
 */
HUNYUAN_API int hunyuan_attention_fp8(const hunyuan_attention_args* args, const hunyuan_norm_rope_args* before,
                                      void* workspace, hunyuan_target target);
HUNYUAN_API int64_t hunyuan_attention_fp8_workspace(const hunyuan_attention_args* args);

#if defined(__cplusplus)
}
#endif
