// common/ptx/shared_memory.cuh for the emulator.
#pragma once

#include "emulator.h"

namespace hunyuan::ptx {

inline uint32_t shared_address(const void* pointer) { return ::emulator::shared_address(pointer); }
inline uint32_t aligned_address(const void* pointer, uint32_t alignment) {
  return (shared_address(pointer) + alignment - 1) & ~(alignment - 1);
}
inline void store_shared(uint32_t address, uint32_t value) { std::memcpy(::emulator::shared_pointer(address), &value, 4); }
inline void store_shared(uint32_t address, uint4 value) { std::memcpy(::emulator::shared_pointer(address), &value, 16); }
inline uint4 load_shared16(uint32_t address) {
  uint4 value;
  std::memcpy(&value, ::emulator::shared_pointer(address), 16);
  return value;
}

}  // namespace hunyuan::ptx
