// Tile shapes of the Hopper kernels, one row a case, and what follows from them. Host-callable.
#pragma once

#include <stdint.h>

#include "common/ptx/shared_layout.h"

namespace hunyuan::attention::sm90 {

struct TileShape {
  int query_rows;  // of a thread block: 64 for each consumer warpgroup
  int keys;        // of a key tile; the width of a wgmma
  int stages;      // key tiles (and value tiles) in flight
  int cluster;     // blocks that share each key tile by multicast: halves the reads from L2
};

// Measured on an H200 (27 Nov 2026, docs/kernels/rope_attention.md): 670 TFLOP/s dense, 580 to 621 with a block mask,
// 849 FP8. Other shapes have not been raced against these; the reasons are arithmetic.
constexpr TileShape tile_shape(int head_dim, bool block_mask, bool fp8) {
  // FP8: 64 + 64 + 64 accumulators (scores, output, product of one tile) leave no room for wider tiles.
  if (fp8) return {128, 128, 4, block_mask ? 1 : 2};
  // 128 x 176: 64 + 88 accumulators and 44 registers of probabilities fit in 240; 208 KB of shared memory of 227.
  // head_dim 64: tiles are half as large, so twice the stages. Rows of a block mask differ, so blocks cannot share key
  // tiles.
  return {128, 176, head_dim == 128 ? 2 : 4, block_mask ? 1 : 2};
}

// A block mask names blocks of multiples of 128 keys, and a key tile takes what is named one after the other: where
// that lies apart in memory, it is fetched in pieces, which divide both.
constexpr int kPieceKeys = 16;

constexpr int kWarp = 32, kWarpgroup = 128;
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
static_assert(kProducerRegisters * kWarpgroup + kConsumerRegisters * 2 * kWarpgroup <= 65536, "the register file");

// Everything the kernels derive from head_dim, tile and element size. Query and key tiles have head_dim along their
// panels; value tiles too, or, for FP8, whose wgmma takes no other layout, the keys.
template <int kHeadDim_, bool kBlockMask_, bool kFp8_ = false>
struct Traits {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kBlockMask = kBlockMask_, kFp8 = kFp8_;
  static constexpr TileShape kTile = tile_shape(kHeadDim, kBlockMask, kFp8);
  static constexpr int kRows = kTile.query_rows, kKeys = kTile.keys, kStages = kTile.stages, kCluster = kTile.cluster;
  static constexpr int kGroups = kRows / 64, kConsumers = kGroups * kWarpgroup, kThreads = kConsumers + kWarpgroup;
  static constexpr int kConsumerWarps = kConsumers / kWarp;
  static constexpr int kElementBytes = kFp8 ? 1 : 2;
  static constexpr int kStep = 32 / kElementBytes;  // elements of K that a wgmma takes

  static constexpr int kPanelWidth = ptx::kPanelBytes / kElementBytes, kPanels = kHeadDim / kPanelWidth;
  static constexpr int kQueryPanelBytes = kRows * ptx::kPanelBytes, kQueryBytes = kPanels * kQueryPanelBytes;
  static constexpr int kKeyPanelBytes = kKeys * ptx::kPanelBytes, kKeyBytes = kPanels * kKeyPanelBytes;
  static constexpr int kBoxRows =
      (kFp8 ? kHeadDim : kKeys) / kCluster;          // panel rows of a value tile that a block fetches
  static constexpr int kBoxKeys = kKeys / kCluster;  // the same of a key tile

  static constexpr int kOutBytes = kRows * kHeadDim * 2;  // the staged output
  static constexpr bool kOwnStaging = kOutBytes > kQueryBytes;
  static constexpr int kBarrierBytes = (2 + 4 * kStages) * 8;
  static constexpr int kSharedBytes =
      ptx::kAtomBytes + kQueryBytes + 2 * kStages * kKeyBytes + (kOwnStaging ? kOutBytes : 0) + kBarrierBytes;

  static_assert(kFp8 ? kHeadDim == 128 : kHeadDim == 64 || kHeadDim == 128, "head_dim must be whole panels");
  static_assert(!kFp8 || (kKeys == kPanelWidth && kKeys == kHeadDim),
                "an FP8 value tile is one panel, as large as K's");
  static_assert(kGroups == 2, "the ping-pong of the softmax is written for two consumer warpgroups");
  static_assert(kBoxKeys * kCluster == kKeys && kBoxKeys % ptx::kAtomRows == 0 && kBoxKeys <= 256 &&
                    kBoxRows % ptx::kAtomRows == 0,
                "the share of a block must be whole swizzle atoms and fit in a TMA box");
  static_assert(kFp8 || kKeys % kPieceKeys == 0, "a key tile must be whole pieces");
  static_assert(kKeys % kStep == 0, "values are consumed a wgmma step at a time");
  static_assert(kQueryPanelBytes % ptx::kAtomBytes == 0 && kKeyPanelBytes % ptx::kAtomBytes == 0,
                "panels must start at multiples of the swizzle atom");
  static_assert(kSharedBytes <= 232448, "a Hopper block has 227 KB of shared memory");
};

// ---- Matrix descriptors of the two products: which bytes of shared memory a wgmma reads. An emulation of the
// hardware's addressing checks them in tests/cpp/test_layouts.cpp. ----

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
