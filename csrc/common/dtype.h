// Element types as the kernels see them. Plain data only: this header is compiled for several instruction sets.
#pragma once

#include <stdint.h>

namespace hunyuan {

struct bf16 {
  uint16_t bits;  // the upper half of a float32
};
static_assert(sizeof(bf16) == 2, "bf16 must be two bytes");

}  // namespace hunyuan
