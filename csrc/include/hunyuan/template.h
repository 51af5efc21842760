/**
 * @file hunyuan/template.h
 * @brief C ABI: the smallest op that has every part of a real one. Conventions: hunyuan/types.h. See docs/add_an_op.md.
 */
#pragma once

#include "hunyuan/types.h"

#if defined(__cplusplus)
extern "C" {
#endif

/** The template op: out = x * factor; x and out share `dtype` (F32, BF16; F16 on CUDA). */
typedef struct hunyuan_template_scale_args {
  const void* x; /**< [count], contiguous */
  void* out;     /**< [count], contiguous; may be x */
  int64_t count; /**< elements */
  float factor;  /**< what to multiply with */
  enum hunyuan_dtype dtype;
} hunyuan_template_scale_args;

HUNYUAN_API int hunyuan_template_scale(const hunyuan_template_scale_args* args, hunyuan_target target);

#if defined(__cplusplus)
}
#endif
