// Kernels of the FP8 family, by target; chosen in <op>.cpp.
#pragma once

#include "common/isa.h"
#include "hunyuan_ext.h"

namespace hunyuan {

// CPU, one copy per instruction set: out[i] = value(codes[i]) * scale, `count` elements of F32 or BF16.
HUNYUAN_KERNEL(decode_fp8_run, const uint8_t* codes, int64_t count, float scale, hunyuan_dtype dtype, void* out)

#if defined(HUNYUAN_X86)
namespace avx512vbmi {
// The same for BF16 through byte permutes; a run should be long against its 128-entry table.
void decode_fp8_run_bf16(const uint8_t* codes, int64_t count, float scale, void* out);
}  // namespace avx512vbmi
#endif

}  // namespace hunyuan
