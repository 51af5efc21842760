// common/ptx/tma.cuh and the encoder behind common/tensor_map.cuh for the emulator: swizzled copies of boxes, of up to
// five dimensions, with steps; outside of the tensor they give zeros.
#pragma once

#include <cuda.h>

#include "common/ptx/shared_layout.h"
#include "common/ptx/sync.cuh"
#include "emulated_map.h"

namespace hunyuan::ptx {

inline uint64_t evict_first() { return 0; }
inline uint64_t evict_last() { return 0; }
inline uint64_t evict_normal() { return 0; }
inline void prefetch_l2(const void* address) { static_cast<void>(*static_cast<const volatile char*>(address)); }
inline void prefetch_tensor_map(const CUtensorMap*) {}

// Fills the box at `corner`: rows of 128 bytes from shared offset `offset` on, swizzled by the bits of the address.
inline void emulated_fill(const ::emulator::TensorMap& map, char* shared, uint32_t offset, const int* corner) {
  const int64_t rows = map.rows();
  for (int64_t row = 0; row < rows; ++row) {
    int64_t rest = row, source = 0;
    bool inside = true;
    for (int d = 1; d < map.dims; ++d) {
      const int64_t at = corner[d] + rest % map.count(d) * map.step[d];
      rest /= map.count(d);
      inside = inside && at >= 0 && at < map.size[d];
      source += at * map.stride[d - 1];
    }
    for (uint32_t column = 0; column < map.box[0]; ++column) {
      const int64_t at = corner[0] + static_cast<int64_t>(column);
      const uint32_t address = offset + static_cast<uint32_t>(row) * kPanelBytes + column * map.element_bytes;
      char* to = shared + (address ^ ((address >> 7 & 7) << 4));
      if (inside && at >= 0 && at < map.size[0])
        std::memcpy(to, map.data + source + at * map.element_bytes, map.element_bytes);
      else
        std::memset(to, 0, map.element_bytes);
    }
  }
}

template <size_t kCoordinates>
void emulated_copy(const CUtensorMap* opaque, uint32_t destination, uint32_t barrier, const int (&corner)[kCoordinates],
                   uint16_t blocks) {
  const auto map = *reinterpret_cast<const ::emulator::TensorMap*>(opaque);
  if (map.dims != kCoordinates) ::emulator::fault("tensor copy: the map has another number of dimensions");
  if (destination % 128) ::emulator::fault("tensor copy: the destination must be a multiple of 128 bytes");
  const std::vector<int> at(corner, corner + kCoordinates);
  for (unsigned rank = 0; rank < ::emulator::cluster_size(); ++rank) {
    if (!(blocks >> rank & 1)) continue;
    const uint32_t offset = destination & 0xffffff;
    ::emulator::Block& block = ::emulator::block_of_rank(rank);
    if (offset + map.rows() * kPanelBytes > block.shared_bytes) ::emulator::fault("tensor copy: past the shared memory");
    EmulatedBarrier* counter = &emulated_barrier((barrier & 0xffffff) | rank << 24);
    char* shared = block.shared;
    ::emulator::defer(::emulator::Work::kCopy, [=] {
      emulated_fill(map, shared, offset, at.data());
      counter->landed(static_cast<int32_t>(map.rows() * kPanelBytes));
    });
  }
}

inline uint16_t emulated_self() { return static_cast<uint16_t>(1u << ::emulator::thread().block->rank); }

inline void copy_box(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0, int c1, int c2, int c3, uint64_t) {
  emulated_copy(map, destination, barrier, {c0, c1, c2, c3}, emulated_self());
}
inline void copy_box_multicast(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0, int c1, int c2,
                               int c3, uint16_t blocks, uint64_t) {
  emulated_copy(map, destination, barrier, {c0, c1, c2, c3}, blocks);
}
inline void copy_box(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0, int c1, int c2, int c3, int c4,
                     uint64_t) {
  emulated_copy(map, destination, barrier, {c0, c1, c2, c3, c4}, emulated_self());
}
inline void copy_box_multicast(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0, int c1, int c2,
                               int c3, int c4, uint16_t blocks, uint64_t) {
  emulated_copy(map, destination, barrier, {c0, c1, c2, c3, c4}, blocks);
}

}  // namespace hunyuan::ptx
