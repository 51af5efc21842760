// Tile schedules: every tile of the output is computed exactly once, every key tile of a query tile is visited once, in
// descending order, and block masks mean what they say.
#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "attention/schedule.h"
#include "check.h"

using namespace hunyuan::attention;

namespace {

std::mt19937 random_bits(7);
int pick(int low, int high) { return low + static_cast<int>(random_bits() % (high - low + 1)); }

// The grid-stride walk of a persistent grid of clusters, as in attention/sm90/kernel.cuh.
void every_output_tile_once() {
  for (int trial = 0; trial < 1000; ++trial) {
    const int batch = pick(1, 3), heads = pick(1, 5), rows = 128, queries = pick(1, 3000), cluster = pick(1, 2);
    const int tiles = ceil_div(queries, rows), clusters = ceil_div(queries, rows * cluster), grid = pick(1, 140);
    const Schedule schedule{batch, heads, clusters};
    std::vector<int> written(batch * heads * tiles);
    for (int block = 0; block < grid * cluster; ++block)
      for (int index = block / cluster; index < schedule.count(); index += grid) {
        const Work work = schedule[index];
        const int tile = work.query_tile * cluster + block % cluster;
        CHECK(work.batch >= 0 && work.batch < batch && work.head >= 0 && work.head < heads, "trial %d", trial);
        if (tile < tiles)
          ++written[(work.batch * heads + work.head) * tiles + tile];
        else
          CHECK(tile == tiles, "trial %d: tile %d of %d", trial, tile, tiles);  // the odd one out of the last cluster
      }
    CHECK(std::all_of(written.begin(), written.end(), [](int times) { return times == 1; }), "trial %d", trial);
  }
}

void heads_follow_each_other() {
  const Schedule schedule{2, 3, 5};
  for (int index = 1; index < schedule.count(); ++index) {
    const Work before = schedule[index - 1], work = schedule[index];
    const bool next_tile = work.head == before.head && work.query_tile == before.query_tile + 1;
    const bool next_head = work.query_tile == 0 && before.query_tile == 4;
    CHECK(next_tile || next_head, "index %d", index);
  }
}

std::vector<int> walk(KeyTiles tiles) {
  std::vector<int> visited;
  for (; tiles.left > 0; tiles.next()) visited.push_back(tiles.tile);
  return visited;
}

void all_keys_once() {
  for (int keys : {0, 1, 2, 175, 176, 177, 351, 352, 353, 997, 119056})
    for (int size : {64, 128, 176}) {
      const std::vector<int> visited = walk(all_key_tiles(keys, size));
      CHECK(static_cast<int>(visited.size()) == (keys + size - 1) / size, "%d keys in tiles of %d", keys, size);
      for (size_t i = 0; i < visited.size(); ++i)
        CHECK(visited[i] == static_cast<int>(visited.size() - 1 - i), "order");
      if (!visited.empty()) {
        const int valid = keys - visited[0] * size;  // only the first visited tile may be cut
        CHECK(valid > 0 && valid <= size, "%d keys: %d valid in the last tile", keys, valid);
      }
    }
}

void lists_are_walked_from_the_end() {
  for (int trial = 0; trial < 1000; ++trial) {
    const int tile_keys = pick(0, 1) ? 64 : 128, blocks_tiles = pick(1, 6), block_keys = tile_keys * blocks_tiles;
    const int tiles_per_row = pick(1, 3), rows = pick(1, 6), keys = pick(1, 4000), valid = pick(0, keys);
    std::vector<int32_t> starts{0}, blocks;
    std::vector<std::set<int>> expected(rows);
    for (int row = 0; row < rows; ++row) {
      for (int block = 0; block * block_keys < keys; ++block)
        if (pick(0, 2) == 0) {
          blocks.push_back(block);
          for (int tile = block * blocks_tiles; tile < (block + 1) * blocks_tiles; ++tile)
            if (tile * tile_keys < valid) expected[row].insert(tile);
        }
      starts.push_back(static_cast<int32_t>(blocks.size()));
    }
    blocks.push_back(-1000000);  // what follows the last list must not be read as a block
    for (int query_tile = 0; query_tile < rows * tiles_per_row; ++query_tile) {
      const std::vector<int> visited = walk(
          mask_key_tiles(starts.data(), blocks.data(), query_tile, tiles_per_row, blocks_tiles, valid, tile_keys));
      const std::set<int>& wanted = expected[query_tile / tiles_per_row];
      CHECK(std::is_sorted(visited.rbegin(), visited.rend()), "trial %d: not descending", trial);
      CHECK(std::set<int>(visited.begin(), visited.end()) == wanted && visited.size() == wanted.size(), "trial %d",
            trial);
    }
  }
}

// Listed keys as a sequence: tiles of any width, fetched whole or in pieces, cover exactly what the list names.
void mask_keys_are_a_sequence() {
  constexpr int kPiece = 16;
  for (int trial = 0; trial < 1000; ++trial) {
    const int tile_keys = pick(0, 1) ? 176 : 128, block_keys = 128 * pick(1, 4), keys = pick(1, 4000);
    const int valid = pick(0, keys);
    std::vector<int32_t> starts{0, 0}, blocks{7};  // an empty row, whose neighbor must not be read
    std::vector<int> wanted;
    starts[1] = 1, starts[0] = 1, blocks[0] = -1000000;
    for (int block = 0; block * block_keys < keys; ++block)
      if (pick(0, 2) > 0) {
        blocks.push_back(block);
        for (int key = block * block_keys; key < std::min((block + 1) * block_keys, valid); ++key) wanted.push_back(key);
      }
    starts.push_back(static_cast<int32_t>(blocks.size()));
    CHECK(mask_keys(starts.data(), blocks.data(), 0, block_keys, valid).count == 0, "trial %d: empty row", trial);
    const MaskKeys listed = mask_keys(starts.data(), blocks.data(), 1, block_keys, valid);
    CHECK(listed.count == static_cast<int>(wanted.size()), "trial %d: %d keys", trial, listed.count);
    std::vector<int> fetched;
    for (int first = 0; first < listed.count; first += tile_keys) {
      const int end = std::min(first + tile_keys, listed.count);
      if (listed.together(first, tile_keys)) {
        for (int key = first; key < end; ++key) fetched.push_back(listed.row(first) + key - first);
      } else {
        for (int piece = first; piece < end; piece += kPiece)
          for (int key = piece; key < std::min(piece + kPiece, end); ++key)
            fetched.push_back(listed.row(piece) + key - piece);
      }
    }
    CHECK(fetched == wanted, "trial %d", trial);
    if (static_cast<int>(wanted.size()) == valid)  // all of them: the tiles of a walk over all keys
      for (int first = 0; first < valid; first += tile_keys)
        CHECK(listed.together(first, tile_keys) && listed.row(first) == first, "trial %d: full list", trial);
  }
}

void lengths_are_limited() {
  const int32_t lengths[] = {-5, 0, 7, 100, 101};
  const int expected[] = {0, 0, 7, 100, 100};
  for (int i = 0; i < 5; ++i) CHECK(valid_keys(lengths, i, 100) == expected[i], "sample %d", i);
  CHECK(valid_keys(nullptr, 3, 100) == 100, "no lengths: all keys");
}

}  // namespace

int main() {
  every_output_tile_once();
  heads_follow_each_other();
  all_keys_once();
  lists_are_walked_from_the_end();
  mask_keys_are_a_sequence();
  lengths_are_limited();
  return report();
}
