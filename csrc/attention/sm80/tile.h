// Tile shapes of the mma.sync kernels and what follows from them. Host-callable.
#pragma once

#include "common/ptx/shared_layout.h"

namespace hunyuan::attention::sm80 {

// 128 queries x 64 keys. With four warps a warp has two 16-row tiles and uses each fragment of K and V twice, which an
// A100 needs: at one row tile a warp, ldmatrix alone would take all of shared memory's 128 bytes a clock. Consumer GPUs
// (8.6, 8.9) have half the tensor rate and room for one such block only, so they get eight warps to hide latencies.
constexpr int warps_for(int compute_minor) { return compute_minor == 0 ? 4 : 8; }

template <int kHeadDim_, int kWarps_, bool kBlockMask_>
struct Traits {
  static constexpr int kHeadDim = kHeadDim_, kWarps = kWarps_;
  static constexpr bool kBlockMask = kBlockMask_;
  static constexpr int kRows = 128, kKeys = 64, kThreads = 32 * kWarps;
  static constexpr int kBlocksPerProcessor = kWarps == 4 ? 2 : 1;
  static constexpr int kRowTiles = kRows / (16 * kWarps);  // of a warp
  static constexpr int kPanelWidth = ptx::kPanelBytes / 2, kPanels = kHeadDim / kPanelWidth;
  static constexpr int kRowChunks = kHeadDim * 2 / ptx::kChunkBytes;
  static constexpr int kQueryBytes = kRows * kHeadDim * 2, kKeyBytes = kKeys * kHeadDim * 2;
  static constexpr int kSharedBytes = ptx::kAtomBytes + kQueryBytes + 2 * kKeyBytes;

  static_assert(kHeadDim == 64 || kHeadDim == 128, "head_dim must be one or two panels");
  static_assert(kRowTiles * 16 * kWarps == kRows, "each warp must own whole row tiles");
  static_assert(kThreads % kRowChunks == 0, "a copy pass must cover whole rows");
  static_assert(kSharedBytes <= 99 * 1024, "an 8.6 or 8.9 block has 99 KB of shared memory");
};

}  // namespace hunyuan::attention::sm80
