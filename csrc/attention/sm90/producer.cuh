// The producer: one warp that keeps the copy engine busy, in the order in which the consumers wait. All its lanes walk
// the tiles (their values stay in uniform registers), one of them issues.
#pragma once

#include "attention/schedule.h"
#include "attention/sm90/params.h"
#include "attention/sm90/shared.cuh"
#include "common/ptx/tma.cuh"

namespace hunyuan::attention::sm90 {

template <class T>
struct Producer {
  static constexpr bool kPieces = T::kBlockMask && !T::kFp8;  // FP8 tiles never cross a block: they have scales

  const Params& params;
  const Shared<T> shared;
  const int rank;  // of this block in its cluster
  ptx::Ring<T::kStages> key_slot{}, value_slot{};
  uint32_t query_parity = 0;

  __device__ void run(const Schedule& schedule, int first, int step) {
    for (int index = first; index < schedule.count(); index += step) tile(work_of<T>(schedule, index, rank));
  }

 private:
  __device__ void tile(const Work& work) {
    KeyTiles tiles = key_tiles<T>(params, work);
    if (tiles.left == 0) return;
    load_key(tiles.tile, work);
    load_query(work);
    int previous = tiles.tile;
#pragma unroll 1
    for (tiles.next(); tiles.left > 0; tiles.next()) {
      load_key(tiles.tile, work);
      load_value(previous, work);
      previous = tiles.tile;
    }
    load_value(previous, work);
  }

  __device__ void load_query(const Work& work) {
    ptx::barrier_wait(shared.query_empty(), query_parity ^ 1);
    query_parity ^= 1;
    if (!ptx::elect_one()) return;
    ptx::barrier_arrive_expect(shared.query_full(), T::kQueryBytes);
    for (int panel = 0; panel < T::kPanels; ++panel)
      ptx::copy_box(&params.query, shared.query() + panel * T::kQueryPanelBytes, shared.query_full(),
                    panel * T::kPanelWidth, work.query_tile * T::kRows, work.head, work.batch, ptx::evict_first());
  }

  __device__ void load_key(int tile, const Work& work) {
    const int stage = key_slot.stage;
    ptx::barrier_wait(shared.key_empty(stage), key_slot.parity ^ 1);
    if (ptx::elect_one()) {
      const uint32_t to = shared.key(stage) + rank * T::kBoxKeys * ptx::kPanelBytes;
      if constexpr (kPieces)
        load_masked(params.key, params.key_piece, to, shared.key_full(stage), tile * T::kKeys, work);
      else
        load(params.key, to, shared.key_full(stage), 0, tile * T::kKeys + rank * T::kBoxKeys, work);
    }
    key_slot.advance();
  }

  __device__ void load_value(int tile, const Work& work) {
    const int stage = value_slot.stage;
    ptx::barrier_wait(shared.value_empty(stage), value_slot.parity ^ 1);
    if (ptx::elect_one()) {
      const uint32_t to = shared.value(stage) + rank * T::kBoxRows * ptx::kPanelBytes;
      const int first_key = tile * T::kKeys, share = rank * T::kBoxRows;
      if constexpr (kPieces)
        load_masked(params.value, params.value_piece, to, shared.value_full(stage), first_key, work);
      else if constexpr (T::kFp8)
        load(params.value, to, shared.value_full(stage), first_key, share, work);
      else
        load(params.value, to, shared.value_full(stage), 0, first_key + share, work);
    }
    value_slot.advance();
  }

  // A tile of a block mask's keys: at once, or piece by piece. What lies past the last key is hidden by the consumers.
  __device__ void load_masked(const CUtensorMap& whole, const CUtensorMap& piece, uint32_t to, uint32_t full,
                              int first_key, const Work& work) const {
    const MaskKeys keys = keys_of(params, work);
    if (keys.together(first_key, T::kKeys)) return load(whole, to, full, 0, keys.row(first_key), work);
    ptx::barrier_arrive_expect(full, T::kKeyBytes);
#pragma unroll 1
    for (int key = first_key; key < first_key + T::kKeys; key += kPieceKeys, to += kPieceKeys * ptx::kPanelBytes) {
      const int row = key < keys.count ? keys.row(key) : params.keys;  // past the tensor: zeros
      for (int panel = 0; panel < T::kPanels; ++panel)
        ptx::copy_box(&piece, to + panel * T::kKeyPanelBytes, full, panel * T::kPanelWidth, row, work.head, work.batch,
                      ptx::evict_last());
    }
  }

  // In a cluster each block fetches its share of the rows for all of them, and each block's barrier counts all bytes.
  __device__ void load(const CUtensorMap& map, uint32_t to, uint32_t full, int column, int row,
                       const Work& work) const {
    ptx::barrier_arrive_expect(full, T::kKeyBytes);
    for (int panel = 0; panel < T::kPanels; ++panel, to += T::kKeyPanelBytes, column += T::kPanelWidth) {
      if constexpr (T::kCluster == 1)
        ptx::copy_box(&map, to, full, column, row, work.head, work.batch, ptx::evict_last());
      else
        ptx::copy_box_multicast(&map, to, full, column, row, work.head, work.batch, (1 << T::kCluster) - 1,
                                ptx::evict_last());
    }
  }
};

}  // namespace hunyuan::attention::sm90
