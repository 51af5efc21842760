// The walk of the matrix products and of the convolution over their output: every tile exactly once, for a thousand
// random problems and grids, alone and in pairs that share an operand.
#include <algorithm>
#include <random>
#include <vector>

#include "check.h"
#include "common/matmul/tile_order.h"

using namespace hunyuan::matmul;

namespace {

std::mt19937 random_bits(11);
int pick(int low, int high) { return low + static_cast<int>(random_bits() % (high - low + 1)); }

void one_block_a_tile() {
  for (int trial = 0; trial < 1000; ++trial) {
    const TileOrder order{pick(1, 60), pick(1, 30), pick(1, 20)};
    std::vector<int> written(order.count());
    for (int64_t index = 0; index < order.count(); ++index) {
      const TileIndex tile = order[index];
      CHECK(tile.row >= 0 && tile.row < order.rows && tile.column >= 0 && tile.column < order.columns,
            "trial %d: tile (%lld, %lld)", trial, static_cast<long long>(tile.row),
            static_cast<long long>(tile.column));
      ++written[tile.row * order.columns + tile.column];
    }
    CHECK(std::all_of(written.begin(), written.end(), [](int times) { return times == 1; }), "trial %d", trial);
  }
}

// The grid-stride walk of wgmma_kernel: blocks of a cluster of two, or alone, over pairs.
void persistent_pairs() {
  int shares[3] = {};
  for (int trial = 0; trial < 1000; ++trial) {
    const int rows = pick(1, 40), columns = pick(1, 30), group = pick(1, 9), grid = pick(1, 132);
    const PairOrder order = pair_order(rows, columns, group);
    const int cluster = order.sharing == Sharing::kNone ? 1 : 2;
    ++shares[static_cast<int>(order.sharing)];
    std::vector<int> written(rows * columns);
    for (int block = 0; block < grid * cluster; ++block)
      for (int64_t index = block / cluster; index < order.pairs.count(); index += grid) {
        const TileIndex tile = order.tile(index, block % cluster), other = order.tile(index, 0);
        CHECK(order.sharing != Sharing::kA || tile.row == other.row, "a pair that shares A is in one row");
        CHECK(order.sharing != Sharing::kB || tile.column == other.column, "a pair that shares B is in one column");
        CHECK(tile.column < columns, "trial %d: column %lld", trial, static_cast<long long>(tile.column));
        if (tile.row < rows)
          ++written[tile.row * columns + tile.column];
        else  // the one that makes the last pair complete
          CHECK(tile.row == rows && order.sharing == Sharing::kB && rows % 2 == 1, "trial %d", trial);
      }
    CHECK(std::all_of(written.begin(), written.end(), [](int times) { return times == 1; }), "trial %d", trial);
  }
  CHECK(shares[0] > 0 && shares[1] > 0 && shares[2] > 0, "%d alone, %d share A, %d share B", shares[0], shares[1],
        shares[2]);
}

// Tiles that run together form rectangles: any window of the walk touches few rows and columns of tiles.
void neighbors_share_operands() {
  const TileOrder order{466, 168, 8};  // 119,056 x 21,504 in tiles of 256 x 128
  const int64_t together = 132;
  for (int64_t first = 0; first + together <= order.count(); first += 997) {
    int64_t low = order.rows, high = 0, left = order.columns, right = 0;
    for (int64_t index = first; index < first + together; ++index) {
      const TileIndex tile = order[index];
      low = std::min(low, tile.row), high = std::max(high, tile.row);
      left = std::min(left, tile.column), right = std::max(right, tile.column);
    }
    const bool crosses = first / (8 * 168) != (first + together - 1) / (8 * 168);
    CHECK(crosses || (high - low < 8 && right - left <= 17), "tiles from %lld on", static_cast<long long>(first));
  }
}

void large_problems_stay_in_64_bits() {
  constexpr int64_t kRows = ceil_div(0x7fffffff - 512, 256), kColumns = ceil_div(0x7fffffff - 512, 128);
  const PairOrder order = pair_order(kRows, kColumns, 8);
  const TileIndex last = order.tile(order.pairs.count() - 1, 1);
  CHECK(order.pairs.count() == kRows * (kColumns / 2) && kColumns % 2 == 0, "count");
  CHECK(last.row == kRows - 1 && last.column == kColumns - 1, "(%lld, %lld)", static_cast<long long>(last.row),
        static_cast<long long>(last.column));
  CHECK((last.row + 1) * 256 <= 0x7fffffff && (last.column + 1) * 128 <= 0x7fffffff, "coordinates fit 32 bits");
}

}  // namespace

int main() {
  one_block_a_tile();
  persistent_pairs();
  neighbors_share_operands();
  large_problems_stay_in_64_bits();
  return report();
}
