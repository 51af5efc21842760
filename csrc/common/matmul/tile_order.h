// Which tiles of the output a persistent block computes, in which order. Host-callable; tests/cpp/test_tile_order.cpp
// checks that every tile is visited exactly once.
#pragma once

#include <stdint.h>

#include "common/host/host_device.h"

namespace hunyuan::matmul {

HUNYUAN_HOST_DEVICE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct TileIndex {
  int64_t row, column;  // of the tile, in tiles
};

// Columns of `group` tile rows one after another: tiles that run at the same time form a rectangle, so that the operand
// panels they share are read from memory once and from L2 afterwards.
struct TileOrder {
  int64_t rows, columns;  // of the output, in tiles (or in pairs of tiles)
  int64_t group;          // tile rows of a rectangle

  HUNYUAN_HOST_DEVICE constexpr int64_t count() const { return rows * columns; }
  // In 32 bits where they suffice: on a GPU a division of 64 bits takes hundreds of cycles, between two tiles.
  HUNYUAN_HOST_DEVICE constexpr TileIndex operator[](int64_t index) const {
    return count() <= 0x7fffffff ? at<uint32_t>(index) : at<int64_t>(index);
  }

 private:
  template <class Integer>
  HUNYUAN_HOST_DEVICE constexpr TileIndex at(int64_t index) const {
    const Integer wide = static_cast<Integer>(columns), all = static_cast<Integer>(rows);
    const Integer most = static_cast<Integer>(group < rows ? group : rows);
    const Integer first_row = static_cast<Integer>(index) / (most * wide) * most;
    const Integer height = all - first_row < most ? all - first_row : most;
    const Integer within = static_cast<Integer>(index) - first_row * wide;
    return {static_cast<int64_t>(first_row + within % height), static_cast<int64_t>(within / height)};
  }
};

// Two blocks of a cluster share one operand tile: neighbors in a row share A, neighbors in a column share B.
enum class Sharing : int { kNone, kA, kB };

struct PairOrder {
  TileOrder pairs;
  Sharing sharing;
  HUNYUAN_HOST_DEVICE constexpr TileIndex tile(int64_t index, int rank) const {
    TileIndex tile = pairs[index];
    if (sharing == Sharing::kA) tile.column = 2 * tile.column + rank;
    if (sharing == Sharing::kB) tile.row = 2 * tile.row + rank;
    return tile;
  }
};

// Sharing the larger tile (A) saves more, but needs an even number of tile columns; sharing B may add a tile row that
// does not exist, whose loads give zeros and whose stores are skipped. A single tile is not worth a cluster.
HUNYUAN_HOST_DEVICE constexpr PairOrder pair_order(int64_t rows, int64_t columns, int64_t group) {
  if (columns % 2 == 0) return {{rows, columns / 2, group}, Sharing::kA};
  if (rows > 1) return {{ceil_div(rows, 2), columns, ceil_div(group, 2)}, Sharing::kB};
  return {{rows, columns, group}, Sharing::kNone};
}

}  // namespace hunyuan::matmul
