// Which instruction set runs. Every CPU kernel is one source compiled once per level (CMakeLists.txt) into
// namespace hunyuan::scalar, ::avx2 and ::avx512; HUNYUAN_KERNEL declares the copies and HUNYUAN_PICK chooses one.
#pragma once

#include "hunyuan/types.h"

#if defined(HUNYUAN_X86)
#define HUNYUAN_KERNEL(name, ...) \
  namespace scalar {              \
  void name(__VA_ARGS__);         \
  }                               \
  namespace avx2 {                \
  void name(__VA_ARGS__);         \
  }                               \
  namespace avx512 {              \
  void name(__VA_ARGS__);         \
  }
#define HUNYUAN_PICK(name)                                           \
  (hunyuan_isa_in_use() == HUNYUAN_AVX512 ? &::hunyuan::avx512::name \
   : hunyuan_isa_in_use() == HUNYUAN_AVX2 ? &::hunyuan::avx2::name   \
                                          : &::hunyuan::scalar::name)
#else
#define HUNYUAN_KERNEL(name, ...) \
  namespace scalar {              \
  void name(__VA_ARGS__);         \
  }
#define HUNYUAN_PICK(name) (&::hunyuan::scalar::name)
#endif

namespace hunyuan {

// Whether the level in use is AVX-512 and the processor also has byte permutes (vpermi2b).
bool has_avx512_vbmi();

// The same for dot products of bfloat16 pairs (vdpbf16ps) and of four bytes (vpdpbusd).
bool has_avx512_bf16();
bool has_avx512_vnni();

// Whether it is AVX-512 and there are AMX tiles for bfloat16 and int8, which Linux lets this process use.
bool has_amx();

}  // namespace hunyuan
