/**
 * @file hunyuan_linear.h
 * @brief The part of the C ABI about linear layers on the CPU; include hunyuan_ext.h, which says the conventions.
 */
#pragma once

#include "hunyuan_ext.h"

#if defined(__cplusplus)
extern "C" {
#endif

/** What multiplies in hunyuan_linear. */
enum hunyuan_linear_unit {
  HUNYUAN_LINEAR_DOT = 0, /**< AVX-512 dot products: vdpbf16ps, vpdpbusd */
  HUNYUAN_LINEAR_AMX = 1  /**< AMX tiles */
};

/** Whether this build and processor, at the level in use, multiply `dtype` (BF16 or I8) with `unit`. */
int hunyuan_has_linear_unit(enum hunyuan_linear_unit unit, enum hunyuan_dtype dtype);

/**
 * out = residual + gate * activation(x weight^T + bias), CPU only, sums in float32 (int32 for I8), rounded once. x may
 * be two inputs side by side. Weights stay as they are in memory: each thread lays out (and decodes) the columns it
 * works on in its own cache, at most 1 MB.
 */
typedef struct hunyuan_linear_args {
  const void* x[2];              /**< [batch, tokens, in_columns[i]]: BF16 or I8; the second may be null */
  const void* weight;            /**< [out_columns, in_columns[0] + in_columns[1]]: BF16, E4M3 or I8 */
  const float* x_scale;          /**< I8: [batch, tokens], contiguous */
  const float* weight_scale;     /**< E4M3: as in hunyuan_decode_fp8_args; I8: [out_columns]; BF16: null */
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

int hunyuan_linear(const hunyuan_linear_args* args, hunyuan_target target);

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

int hunyuan_quantize_int8(const hunyuan_quantize_int8_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif
