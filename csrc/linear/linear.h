// Kernels of the linear family, by target; chosen in <op>.cpp.
#pragma once

#include <stdint.h>

#include "common/host/cuda_op.h"
#include "common/host/isa.h"
#include "hunyuan/linear.h"

namespace hunyuan {
// Dynamic quantization of one row that lies in two pieces; returns its scale.
HUNYUAN_KERNEL(quantize_int8_row, const hunyuan_quantize_int8_args& args, const void* const x[2], int8_t* out,
               float* scale)

// CPU, one copy per instruction set: out[i] = value(codes[i]) * scale, `count` elements of F32 or BF16.
HUNYUAN_KERNEL(decode_fp8_run, const uint8_t* codes, int64_t count, float scale, hunyuan_dtype dtype, void* out)

// hunyuan_linear in float32: 16 columns from `first` for the rows [begin, end) of batch * tokens; `memory` has
// 17 * (in_columns[0] + in_columns[1]) floats.
HUNYUAN_KERNEL(linear_float_rows, const hunyuan_linear_args& args, int64_t first, int64_t begin, int64_t end,
               float* memory)

HUNYUAN_CUDA_OP(quantize_rows, const hunyuan_quantize_rows_args&, hunyuan_target)
HUNYUAN_CUDA_OP(linear_fp8, const hunyuan_linear_fp8_args&, hunyuan_target)
HUNYUAN_CUDA_OP(linear_few_rows, const hunyuan_linear_few_rows_args&, hunyuan_target)
}  // namespace hunyuan

#if defined(HUNYUAN_X86)
namespace hunyuan::avx512vbmi {
// decode_fp8_run for BF16 through byte permutes; a run should be long against its 128-entry table.
void decode_fp8_run_bf16(const uint8_t* codes, int64_t count, float scale, void* out);
}  // namespace hunyuan::avx512vbmi
#endif

namespace hunyuan::linear {
// The two FP8 products; linear_fp8_cuda picks by architecture.
int sm89_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target);
int sm90_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target);
}  // namespace hunyuan::linear
