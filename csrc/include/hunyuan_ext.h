/**
 * @file hunyuan_ext.h
 * @brief C ABI of the HunyuanVideo kernels: plain pointers, sizes and strides; no torch, no Python.
 *
 * Conventions. Sizes and strides are in elements. The innermost dimension of every tensor is contiguous unless a
 * function says otherwise. Inputs and outputs of one call live on one device. Functions return HUNYUAN_OK or a
 * status; the reason, one line, is then in hunyuan_last_error() of the same thread. Nothing is allocated on behalf of
 * the caller. CUDA calls are asynchronous on `target.stream`.
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
enum hunyuan_dtype { HUNYUAN_F32 = 0, HUNYUAN_BF16 = 1, HUNYUAN_F16 = 2, HUNYUAN_E4M3 = 3, HUNYUAN_OTHER = 4 };

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

#if defined(__cplusplus)
}
#endif
