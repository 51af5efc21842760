// Loads from global memory with a hint about their use.
#pragma once

#include <stdint.h>

namespace hunyuan::ptx {

// 16 bytes that are read once and by nobody else: they take no room in the first-level cache. The
// second level fetches the 256 bytes around them.
__device__ inline uint4 load_once16(const void* pointer) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(pointer));
  return value;
}

}  // namespace hunyuan::ptx
