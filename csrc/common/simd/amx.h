// AMX tile registers: eight of 16 rows of 64 bytes.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace hunyuan::amx {
namespace {

// What ldtilecfg reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64, "the layout is the processor's");

// GCC's tile intrinsics do not say that they read memory: nothing may move across.
inline void fence() { asm volatile("" ::: "memory"); }

// The registers, configured, as long as it lives.
struct TileScope {
  TileScope() {
    const TileConfig config;
    fence();
    _tile_loadconfig(&config);
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

}  // namespace
}  // namespace hunyuan::amx
