/**
 * @file hunyuan/linear.h
 * @brief C ABI: linear layers with bfloat16, FP8 and int8 weights, and what quantizes for them. Conventions:
 * hunyuan/types.h.
 */
#pragma once

#include "hunyuan/types.h"

#if defined(__cplusplus)
extern "C" {
#endif

/** What multiplies in hunyuan_linear. */
enum hunyuan_linear_unit {
  HUNYUAN_LINEAR_DOT = 0,  /**< AVX-512 dot products: vdpbf16ps, vpdpbusd */
  HUNYUAN_LINEAR_AMX = 1,  /**< AMX tiles */
  HUNYUAN_LINEAR_FLOAT = 2 /**< float32 on any processor: x F32 or BF16, weight F32, BF16 or E4M3 */
};

/** Whether this build and processor, at the level in use, multiply x of `dtype` (F32, BF16 or I8) with `unit`. */
HUNYUAN_API int hunyuan_has_linear_unit(enum hunyuan_linear_unit unit, enum hunyuan_dtype dtype);

/**
 * out = residual + gate * activation(x weight^T + bias), CPU only, sums in float32 (int32 for I8), rounded once. x may
 * be two inputs side by side. Weights stay as they are in memory: each thread lays out (and decodes) the columns it
 * works on in its own cache, at most 1 MB.
 */
typedef struct hunyuan_linear_args {
  const void* x[2];              /**< [batch, tokens, in_columns[i]]: as the unit has it; the second may be null */
  const void* weight;            /**< [out_columns, in_columns[0] + in_columns[1]]: as the unit has it */
  const float* x_scale;          /**< I8: [batch, tokens], contiguous */
  const float* weight_scale;     /**< E4M3: as in hunyuan_decode_fp8_args; I8: [out_columns]; else null */
  const void* bias;              /**< [out_columns] of out_dtype, or null */
  const void* gate;              /**< [batch, out_columns] of out_dtype, or null */
  const void* residual;          /**< [batch, tokens, out_columns] of out_dtype, or null; may be out */
  void* out;                     /**< [batch, tokens, out_columns]: BF16 or F32 */
  int64_t batch;                 /**< B */
  int64_t tokens;                /**< S */
  int64_t in_columns[2];         /**< K of each input; the second is 0 when absent */
  int64_t out_columns;           /**< N */
  int64_t x_stride[2][2];        /**< of each input: from one sample, and from one token, to the next */
  int64_t weight_row_stride;     /**< from one row of weight to the next */
  int64_t scale_row_stride;      /**< E4M3: as in hunyuan_decode_fp8_args */
  int64_t rows_per_scale;        /**< E4M3: as in hunyuan_decode_fp8_args */
  int64_t columns_per_scale;     /**< E4M3: as in hunyuan_decode_fp8_args; at least K, or a multiple of 32 */
  int64_t gate_stride;           /**< from one sample to the next */
  int64_t residual_stride[2];    /**< from one sample, and from one token, to the next */
  int64_t out_stride[2];         /**< from one sample, and from one token, to the next */
  int64_t gelu_from;             /**< GELU in its tanh form on columns from here, a multiple of 32; out_columns: none */
  enum hunyuan_linear_unit unit; /**< one that hunyuan_has_linear_unit names */
  enum hunyuan_dtype x_dtype;
  enum hunyuan_dtype weight_dtype;
  enum hunyuan_dtype out_dtype;
} hunyuan_linear_args;

HUNYUAN_API int hunyuan_linear(const hunyuan_linear_args* args, hunyuan_target target);

/**
 * Rows of x as I8 with a scale each, x ~ out * scale, scale = largest magnitude / 127; to nearest even. CPU only.
 * VNNI multiplies unsigned inputs: hunyuan_linear expects out + 128 when its unit is HUNYUAN_LINEAR_DOT.
 */
typedef struct hunyuan_quantize_int8_args {
  const void* x[2];         /**< as in hunyuan_linear_args: F32 or BF16 */
  int8_t* out;              /**< [batch * tokens, in_columns[0] + in_columns[1]] */
  float* scale;             /**< [batch * tokens] */
  int64_t batch;            /**< B */
  int64_t tokens;           /**< S */
  int64_t in_columns[2];    /**< K of each input */
  int64_t x_stride[2][2];   /**< of each input: from one sample, and from one token, to the next */
  int64_t out_row_stride;   /**< from one row of out to the next */
  int plus_128;             /**< 1: out holds value + 128, unsigned */
  enum hunyuan_dtype dtype; /**< of x */
} hunyuan_quantize_int8_args;

HUNYUAN_API int hunyuan_quantize_int8(const hunyuan_quantize_int8_args* args, hunyuan_target target);

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

HUNYUAN_API int hunyuan_decode_fp8(const hunyuan_decode_fp8_args* args, hunyuan_target target);

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

HUNYUAN_API int hunyuan_quantize_rows(const hunyuan_quantize_rows_args* args, hunyuan_target target);

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
  float* out_scale;          /**< null; or [ceil(out_columns / 128), rows]: out is quantized by blocks of 128 columns */
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

HUNYUAN_API int hunyuan_linear_fp8(const hunyuan_linear_fp8_args* args, hunyuan_target target);

/**
 * out = residual + gate * activation(x weight^T + bias) for at most 16 rows of bfloat16, CUDA only: the E4M3 weight is
 * read once and decoded exactly, x is not quantized, sums are float32 in a fixed order. Addresses are multiples of 16
 * bytes.
 */
typedef struct hunyuan_linear_few_rows_args {
  const void* x;             /**< [rows, in_columns] BF16 */
  const void* weight;        /**< [out_columns, in_columns] E4M3, contiguous */
  const float* weight_scale; /**< one value, or [out_columns] */
  const void* bias;          /**< [out_columns] BF16, or null */
  const void* gate;          /**< [rows / tokens, out_columns] BF16, or null */
  const void* residual;      /**< [rows, out_columns] BF16, contiguous, or null; may be out */
  void* out;                 /**< [rows, out_columns] BF16, contiguous */
  int64_t rows;              /**< M, at most 16 */
  int64_t in_columns;        /**< K, a multiple of 16 */
  int64_t out_columns;       /**< N */
  int64_t x_row_stride;      /**< from one row of x to the next, a multiple of 8 */
  int64_t tokens;            /**< rows that share a row of gate */
  int64_t gate_stride;       /**< from one row of gate to the next */
  int scale_per_row;         /**< 1: weight_scale has a value for every row of weight; 0: one in all */
  int gelu;                  /**< 1: activation is GELU in its tanh form; 0: none */
} hunyuan_linear_few_rows_args;

HUNYUAN_API int hunyuan_linear_few_rows(const hunyuan_linear_few_rows_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif
