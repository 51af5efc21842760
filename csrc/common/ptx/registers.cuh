// Hints to the compiler about when values are computed; no instructions.
#pragma once

#include <stdint.h>

namespace hunyuan::ptx {

// Ties register arrays to this point of the program: the compiler must not move reads or writes of them across.
template <int kCount>
__device__ void pin(float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(values[i])::"memory");
}
template <int kCount>
__device__ void pin(uint32_t (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(values[i])::"memory");
}

// The value itself, as if computed here: keeps the compiler from computing what depends on it earlier, outside a loop
// whose registers are all taken.
__device__ inline int computed_here(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

}  // namespace hunyuan::ptx
