// Arithmetic instructions that C++ has no name for.
#pragma once

#include <stdint.h>

namespace hunyuan::ptx {

// 2 ^ x, within two units in the last place; 0 for minus infinity.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1 / x, within one unit in the last place; 0 for infinity.
__device__ inline float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two floats rounded to a register of two bf16, `low` in the lower half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// Four floats rounded to a register of four e4m3, the first in the lowest byte; beyond 448 they become 448.
__device__ inline uint32_t pack_e4m3(float a, float b, float c, float d) {
  uint32_t packed;
  asm("{\n"
      ".reg .b16 low, high;\n"
      "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
      "mov.b32 %0, {low, high};\n"
      "}"
      : "=r"(packed)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return packed;
}

// Four e4m3 codes, the first in the lowest byte, to two registers of two bf16, exactly: sign, exponent and fraction
// moved into place, times 2 ^ 120, which makes up for the exponent's bias and holds for subnormals, too. The two codes
// without a number become 480.
__device__ inline void e4m3_to_bf16(uint32_t codes, uint32_t& first, uint32_t& second) {
  const uint32_t words[2] = {__byte_perm(codes, 0, 0x1404), __byte_perm(codes, 0, 0x3424)};  // codes in the upper bytes
  uint32_t* const out[2] = {&first, &second};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t bits = (words[i] & 0x80008000u) | ((words[i] >> 4) & 0x07f007f0u);
#if __CUDA_ARCH__ >= 900
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(*out[i]) : "r"(bits), "r"(0x7b807b80u));
#else
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(*out[i]) : "r"(bits), "r"(0x7b807b80u), "r"(0x80008000u));  // + -0
#endif
  }
}

}  // namespace hunyuan::ptx
