/**
 * @file hunyuan_ext.h
 * @brief C ABI of the HunyuanVideo kernels: plain pointers, sizes and strides; no torch, no Python.
 *
 * Conventions. Sizes and strides are in elements. The innermost dimension of every tensor is contiguous unless a
 * function says otherwise. Inputs and outputs of one call live on one device. Functions return HUNYUAN_OK or a
 * status; the reason, one line, is then in hunyuan_last_error() of the same thread. Outputs are the caller's memory and
 * never overlap inputs unless a function allows it. CUDA calls are asynchronous on `target.stream`.
 */
#pragma once

#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

/** Result of a call. */
enum hunyuan_status {
  HUNYUAN_OK = 0,
  HUNYUAN_BAD_ARGUMENT = 1, /**< a size, stride or flag is out of range */
  HUNYUAN_BAD_DTYPE = 2,    /**< the kernel does not exist for this element type */
  HUNYUAN_NO_CUDA = 3,      /**< built without CUDA kernels */
  HUNYUAN_CUDA_ERROR = 4    /**< the CUDA runtime reported an error */
};

/** Element types. */
enum hunyuan_dtype {
  HUNYUAN_F32 = 0,
  HUNYUAN_BF16 = 1,
  HUNYUAN_F16 = 2,
  HUNYUAN_E4M3 = 3,
  HUNYUAN_OTHER = 4,
  HUNYUAN_I32 = 5,
  HUNYUAN_I8 = 6
};

/** Instruction sets of the CPU kernels; a level includes the ones below it. */
enum hunyuan_isa { HUNYUAN_SCALAR = 0, HUNYUAN_AVX2 = 1, HUNYUAN_AVX512 = 2 };

/** Where a kernel runs. */
typedef struct hunyuan_target {
  int device;   /**< -1 for the CPU, else the CUDA device ordinal */
  void* stream; /**< cudaStream_t; CUDA only */
  int threads;  /**< most OpenMP threads to use; CPU only; the result does not depend on it */
} hunyuan_target;

/** Text of this thread's last error; valid until its next failing call. */
const char* hunyuan_last_error(void);

/** What was compiled in: comma separated CUDA architectures ("sm_80,sm_89,sm_90a"), empty for a CPU build. */
const char* hunyuan_built_cuda_archs(void);

/** Highest level that was built and that this processor supports. */
enum hunyuan_isa hunyuan_isa_supported(void);

/** Level in effect: the supported one, lowered by hunyuan_set_isa. */
enum hunyuan_isa hunyuan_isa_in_use(void);

/** Use at most `level` from now on, in all threads (tests, debugging); fails when it is not supported. */
int hunyuan_set_isa(enum hunyuan_isa level);

/** Space separated names of the processor features that kernels ask for ("avx2 fma avx512f ... amx_bf16"). */
const char* hunyuan_cpu_features(void);

/** Number of usable CUDA devices; 0 without a driver or a CUDA build. */
int hunyuan_cuda_device_count(void);

/** The template op: out = x * factor; x and out share `dtype` (F32, BF16; F16 on CUDA). See docs/add_an_op.md. */
typedef struct hunyuan_template_scale_args {
  const void* x; /**< [count], contiguous */
  void* out;     /**< [count], contiguous; may be x */
  int64_t count; /**< elements */
  float factor;  /**< what to multiply with */
  enum hunyuan_dtype dtype;
} hunyuan_template_scale_args;

int hunyuan_template_scale(const hunyuan_template_scale_args* args, hunyuan_target target);

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

int hunyuan_layer_norm_modulate(const hunyuan_layer_norm_modulate_args* args, hunyuan_target target);

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

int hunyuan_gate_residual(const hunyuan_gate_residual_args* args, hunyuan_target target);

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

int hunyuan_pad_causal(const hunyuan_pad_causal_args* args, hunyuan_target target);

/**
 * out = conv(x) + bias + residual, CUDA only: x already carries its padding (pad_causal, group_norm_silu), so there is
 * none here. Implicit matrix product on tensor cores with float32 accumulation, one rounding. Channels-last,
 * contiguous. x and weight start at multiples of 16 bytes.
 */
typedef struct hunyuan_causal_conv3d_args {
  const void* x;                 /**< [batch, frames, rows, columns, channels] */
  const void* weight;            /**< [out_channels, kernel[0], kernel[1], kernel[2], channels] */
  const void* bias;              /**< [out_channels], or null */
  const void* residual;          /**< as out, or null; may be out */
  void* out;                     /**< [batch, frames', rows', columns', out_channels], n' = (n - kernel) / stride + 1 */
  float* moments;                /**< null, or the statistics of out for the next group_norm_silu:
                                      [batch, hunyuan_causal_conv3d_moment_chunks, groups, 3] */
  int64_t batch;                 /**< B */
  int64_t channels;              /**< C, a multiple of 8 */
  int64_t out_channels;          /**< N */
  int64_t frames;                /**< T of x, with its padding */
  int64_t rows;                  /**< H of x, with its padding */
  int64_t columns;               /**< W of x, with its padding */
  int64_t kernel[3];             /**< frames, rows, columns; at most 64 taps */
  int64_t stride[3];             /**< frames, rows, columns; 1 or 2 */
  int64_t groups;                /**< of the moments; out_channels / groups divides 128 or 32 */
  enum hunyuan_dtype dtype;      /**< of x, weight, residual and out: BF16 or F16 */
  enum hunyuan_dtype bias_dtype; /**< of bias: `dtype` or F32 */
} hunyuan_causal_conv3d_args;

int hunyuan_causal_conv3d(const hunyuan_causal_conv3d_args* args, hunyuan_target target);
/** Chunks of a sample in `moments`, on this device; it depends on the shape and the architecture. */
int64_t hunyuan_causal_conv3d_moment_chunks(const hunyuan_causal_conv3d_args* args, hunyuan_target target);

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
  int silu;                        /**< 0: normalise only */
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
int64_t hunyuan_group_norm_silu_workspace(const hunyuan_group_norm_silu_args* args, hunyuan_target target);
int hunyuan_group_norm_silu(const hunyuan_group_norm_silu_args* args, hunyuan_target target);

/**
 * The pass before attention, for q and k at once: RMSNorm of every token over head_dim, then rotary embedding of
 * interleaved pairs on the first tokens - text_tokens (video) tokens. Float32 inside, one rounding. F32 and BF16, CPU.
 */
typedef struct hunyuan_qk_norm_rope_args {
  const void* in[2];             /**< q, k: [batch, tokens, heads, head_dim] */
  void* out[2];                  /**< q, k: [batch, heads, tokens, head_dim], contiguous */
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
  int64_t cos_stride;            /**< from one token to the next in cos */
  int64_t sin_stride;            /**< from one token to the next in sin */
  float eps;                     /**< added to the mean square */
  enum hunyuan_dtype dtype;      /**< of q, k and their outputs */
  enum hunyuan_dtype norm_dtype; /**< of the four weights: F32 or BF16 */
} hunyuan_qk_norm_rope_args;

int hunyuan_qk_norm_rope(const hunyuan_qk_norm_rope_args* args, hunyuan_target target);

/** Arithmetic units of the CPU attention. */
enum hunyuan_attention_unit {
  HUNYUAN_UNIT_FLOAT = 0,    /**< float32, at the level in use */
  HUNYUAN_UNIT_BF16 = 1,     /**< AVX512-BF16: bfloat16 products, float32 sums */
  HUNYUAN_UNIT_AMX = 2,      /**< AMX-BF16: the same on tiles of registers */
  HUNYUAN_UNIT_AMX_SPLIT = 3 /**< AMX-BF16: float32 as sums of three bfloat16 numbers, six products for one */
};

/** Whether this build has kernels for `unit`, and this processor, at the level in use, can run them. */
int hunyuan_has_attention_unit(enum hunyuan_attention_unit unit);

/** Whether Intel made the processor: MKL, which multiplies for torch, takes slower paths on others. */
int hunyuan_cpu_is_intel(void);

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
  const int32_t* row_starts;        /**< block list: [list_rows + 1]; or null: all keys */
  const int32_t* key_blocks;        /**< block list: [list_pairs], ascending blocks of each row */
  int64_t list_rows;                /**< rows of the list; they must cover all queries */
  int64_t list_pairs;               /**< length of key_blocks */
  int64_t query_tile;               /**< queries of a row of the list */
  int64_t key_tile;                 /**< keys of a block of the list */
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

int hunyuan_rope_attention(const hunyuan_rope_attention_args* args, hunyuan_target target);

/** out = weight * scale, from float8_e4m3fn to F32 or BF16, rounded once. CPU only. */
typedef struct hunyuan_decode_fp8_args {
  const uint8_t* weight;        /**< [rows, columns] codes */
  const float* scale;           /**< one value, [rows], or [row blocks, column blocks] */
  void* out;                    /**< [rows, columns], contiguous */
  int64_t rows;                 /**< output channels to decode */
  int64_t columns;              /**< input channels K */
  int64_t weight_row_stride;    /**< from one row of weight to the next */
  int64_t scale_row_stride;     /**< from one row (block) of scale to the next; 0 for a single value */
  int64_t rows_per_scale;       /**< rows that share a scale: 1 for row scales, the block size for blocks */
  int64_t columns_per_scale;    /**< columns that share a scale: `columns` or the block size */
  enum hunyuan_dtype out_dtype; /**< F32 or BF16 */
} hunyuan_decode_fp8_args;

int hunyuan_decode_fp8(const hunyuan_decode_fp8_args* args, hunyuan_target target);

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
  const int32_t* row_starts; /**< block list: [ceil(queries / query_tile) + 1], on the device; or null: all keys */
  const int32_t* key_blocks; /**< block list: ascending blocks of each row */
  int64_t query_tile;        /**< queries of a row of the list, a multiple of 128 */
  int64_t key_tile;          /**< keys of a block of the list, a multiple of 128 */
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

int hunyuan_attention(const hunyuan_attention_args* args, hunyuan_target target);

/** Float8_e4m3fn codes of the rows of x with a scale each, x ~ out * scale: what linear_fp8 reads. CUDA only. */
typedef struct hunyuan_quantize_rows_args {
  const void* x;            /**< [rows, columns] */
  void* out;                /**< [rows, columns] E4M3, contiguous */
  float* scale;             /**< [rows]; or [ceil(columns / block), rows] when `block` is set */
  int64_t rows;             /**< M */
  int64_t columns;          /**< K, a multiple of 8; at most 32768 when block is 0 */
  int64_t x_row_stride;     /**< from one row of x to the next */
  int64_t block;            /**< columns that share a scale: 0 (the whole row) or 128 */
  enum hunyuan_dtype dtype; /**< of x: F32, BF16 or F16 */
} hunyuan_quantize_rows_args;

int hunyuan_quantize_rows(const hunyuan_quantize_rows_args* args, hunyuan_target target);

/**
 * out = residual + gate * activation(x weight^T + bias) with E4M3 operands on FP8 tensor cores (sm_89, sm_90), CUDA
 * only. From 8192 columns on, or with scales by block, the products of 128 columns are added up in float32 outside the
 * tensor cores, whose own sums have about 22 bits. Addresses are multiples of 16 bytes.
 */
typedef struct hunyuan_linear_fp8_args {
  const void* x;             /**< [rows, in_columns] E4M3, contiguous */
  const float* x_scale;      /**< [rows], or [ceil(in_columns / 128), rows] when x_block is 128 */
  const void* weight;        /**< [out_columns, in_columns] E4M3, contiguous */
  const float* weight_scale; /**< one value, [out_columns], or [ceil(out_columns / 128), ceil(in_columns / 128)] */
  const void* bias;          /**< [out_columns] BF16, or null */
  const void* gate;          /**< [rows / tokens, out_columns] BF16, or null */
  const void* residual;      /**< [rows, out_columns] BF16, contiguous, or null; may be out */
  void* out;                 /**< [rows, out_columns], contiguous: BF16, or E4M3 when out_scale is given */
  float* out_scale;          /**< null; or [ceil(out_columns / 128), rows]: out is quantised by blocks of 128 columns */
  int64_t rows;              /**< M */
  int64_t in_columns;        /**< K, a multiple of 16 */
  int64_t out_columns;       /**< N, a multiple of 16 */
  int64_t tokens;            /**< rows that share a row of gate */
  int64_t gate_stride;       /**< from one row of gate to the next, a multiple of 2 */
  int64_t x_block;           /**< 0 or 128: columns of x that share a scale */
  int64_t weight_scales;     /**< 0: one value; 1: a value a row; 128: a value a block of 128 x 128 */
  int gelu;                  /**< 1: activation is GELU in its tanh form; 0: none */
  const void* x_tail;        /**< null; or E4M3 [rows, in_columns - head_columns], contiguous: the columns of K that
                                  follow x, which is then [rows, head_columns]; x_block is 128 */
  const float* x_tail_scale; /**< of x_tail, as x_scale of x */
  int64_t head_columns;      /**< columns of x when there is an x_tail: a multiple of 128 */
} hunyuan_linear_fp8_args;

int hunyuan_linear_fp8(const hunyuan_linear_fp8_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif

#include "hunyuan_linear.h"
