// Matrix descriptors of the two products: which bytes of shared memory a wgmma reads. Host-callable; an emulation of
// the hardware's addressing checks them in tests/cpp/test_layouts.cpp.
#pragma once

#include "attention/sm90/tile.h"

namespace hunyuan::attention::sm90 {

// A of S = Q K^T: the 64 rows of a warpgroup, columns [k, k + kStep) of head_dim.
template <class T>
HUNYUAN_HOST_DEVICE constexpr uint64_t query_operand(uint32_t tile, int group, int k) {
  return ptx::advance_descriptor(ptx::matrix_descriptor(tile + group * 64 * ptx::kPanelBytes, 16),
                                 ptx::k_major_offset(k * T::kElementBytes, T::kRows));
}

// B of S = Q K^T: all keys of a tile, columns [k, k + kStep) of head_dim.
template <class T>
HUNYUAN_HOST_DEVICE constexpr uint64_t key_operand(uint32_t tile, int k) {
  return ptx::advance_descriptor(ptx::matrix_descriptor(tile, 16), ptx::k_major_offset(k * T::kElementBytes, T::kKeys));
}

// B of O += P V: keys [k, k + kStep) of a tile. Two bytes: two atoms of a panel, the panels continue head_dim. FP8: the
// keys run along the panel.
template <class T>
HUNYUAN_HOST_DEVICE constexpr uint64_t value_operand(uint32_t tile, int k) {
  const uint32_t offset = T::kFp8 ? k * T::kElementBytes : k * ptx::kPanelBytes;
  return ptx::advance_descriptor(ptx::matrix_descriptor(tile, T::kKeyPanelBytes), offset);
}

}  // namespace hunyuan::attention::sm90
