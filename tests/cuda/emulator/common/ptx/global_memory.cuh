// common/ptx/global_memory.cuh for the emulator.
#pragma once

#include "emulator.h"

namespace hunyuan::ptx {

inline uint4 load_once16(const void* pointer) {
  if (reinterpret_cast<uintptr_t>(pointer) % 16) ::emulator::fault("ld.global.v4: the address is no multiple of 16 bytes");
  uint4 value;
  std::memcpy(&value, pointer, 16);
  return value;
}

}  // namespace hunyuan::ptx
