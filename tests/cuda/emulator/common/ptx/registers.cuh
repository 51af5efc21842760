// common/ptx/registers.cuh for the emulator.
#pragma once

#include <cstdint>

namespace hunyuan::ptx {

template <int kCount>
void pin(float (&)[kCount]) {}
template <int kCount>
void pin(uint32_t (&)[kCount]) {}

inline int computed_here(int value) { return value; }

}  // namespace hunyuan::ptx
