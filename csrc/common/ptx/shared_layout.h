// Where a tile lies in shared memory, and how the tensor cores are told so: the 128-byte swizzle of TMA and wgmma, and
// the 64-bit matrix descriptor (PTX ISA, "Asynchronous warpgroup level matrix shared memory layout"). Host-callable.
//
// A tile is stored as panels. A panel is 128 bytes wide (64 two-byte or 128 one-byte elements) and as many rows tall as
// the tile; it starts at a multiple of 1024 bytes. Within a panel the 16-byte chunk c of row r lies at chunk c ^ (r %
// 8).
#pragma once

#include <stdint.h>

#include "common/host/host_device.h"

namespace hunyuan::ptx {

constexpr int kPanelBytes = 128;  // width of a panel: one row of the swizzle pattern
constexpr int kAtomRows = 8;      // rows after which the pattern repeats
constexpr int kAtomBytes = kPanelBytes * kAtomRows;
constexpr int kChunkBytes = 16;  // what the swizzle moves as a whole

// Offset of a byte from the start of its panel.
HUNYUAN_HOST_DEVICE constexpr uint32_t swizzled_offset(uint32_t row, uint32_t byte_in_row) {
  return row * kPanelBytes + ((byte_in_row / kChunkBytes) ^ (row % kAtomRows)) * kChunkBytes +
         byte_in_row % kChunkBytes;
}

// Offset of a byte from the start of a tile of `rows` rows.
HUNYUAN_HOST_DEVICE constexpr uint32_t tile_offset(int rows, int row, int byte_in_row) {
  return byte_in_row / kPanelBytes * (rows * kPanelBytes) + swizzled_offset(row, byte_in_row % kPanelBytes);
}

// From the address of a byte of a swizzled row to that of the byte `bytes` further along it, panels being `panel_bytes`
// apart: one exclusive or instead of a new address. Holds when panels start at multiples of 128, `bytes` is a multiple
// of a power of two of chunks and the address is in the first chunks below that power.
HUNYUAN_HOST_DEVICE constexpr uint32_t along_row(uint32_t address, uint32_t bytes, uint32_t panel_bytes) {
  return (address ^ bytes % kPanelBytes) + bytes / kPanelBytes * panel_bytes;
}

// Matrix descriptor of a 128-byte swizzled operand whose panel starts at shared address `address`.
// leading_bytes: from one panel to the next, for operands stored with the M or N dimension along the panel's width;
// unused (any value) when K runs along the width. stride_bytes: from 8 rows of a panel to the next 8.
HUNYUAN_HOST_DEVICE constexpr uint64_t matrix_descriptor(uint32_t address, uint32_t leading_bytes,
                                                         uint32_t stride_bytes = kAtomBytes) {
  constexpr uint64_t kSwizzle128 = 1;
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>((leading_bytes & 0x3ffff) >> 4) << 16 |
         static_cast<uint64_t>((stride_bytes & 0x3ffff) >> 4) << 32 | kSwizzle128 << 62;
}

// The same operand `bytes` further on; shared memory ends below 2^18, so the address field does not overflow.
HUNYUAN_HOST_DEVICE constexpr uint64_t advance_descriptor(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

// K runs along the width of the panels (Q and K of attention): offset of `k_bytes` along K from the start of the tile.
HUNYUAN_HOST_DEVICE constexpr uint32_t k_major_offset(uint32_t k_bytes, uint32_t tile_rows) {
  return k_bytes / kPanelBytes * (tile_rows * kPanelBytes) + k_bytes % kPanelBytes;
}

static_assert(swizzled_offset(0, 20) == 20 && swizzled_offset(9, 0) == 9 * 128 + 16, "swizzle is chunk ^ (row % 8)");
static_assert(matrix_descriptor(0x400, 0x5800) == (0x40ull | 0x580ull << 16 | 0x40ull << 32 | 1ull << 62),
              "descriptor: address, leading and stride offsets in units of 16 bytes, layout type in the top bits");

}  // namespace hunyuan::ptx
