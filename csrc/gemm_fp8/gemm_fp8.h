// Kernels of the FP8 family, by target; chosen in <op>.cpp.
#pragma once

#include "common/isa.h"
#include "hunyuan_ext.h"

namespace hunyuan {

// CPU, one copy per instruction set: out[i] = value(codes[i]) * scale, `count` elements of F32 or BF16.
HUNYUAN_KERNEL(decode_fp8_run, const uint8_t* codes, int64_t count, float scale, hunyuan_dtype dtype, void* out)

// CUDA; in sm80/, sm89/, sm90/ or in common/cuda_absent.cpp.
int quantize_rows_cuda(const hunyuan_quantize_rows_args& args, hunyuan_target target);
int linear_fp8_cuda(const hunyuan_linear_fp8_args& args, hunyuan_target target);

namespace gemm_fp8 {
// The two products; linear_fp8_cuda picks by architecture.
int sm89_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target);
int sm90_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target);
}  // namespace gemm_fp8

#if defined(HUNYUAN_X86)
namespace avx512vbmi {
// The same for BF16 through byte permutes; a run should be long against its 128-entry table.
void decode_fp8_run_bf16(const uint8_t* codes, int64_t count, float scale, void* out);
}  // namespace avx512vbmi
#endif

}  // namespace hunyuan
