// Which tile of the output a thread block computes, and which tiles of keys it visits for it. Host-callable and tested
// on the CPU (tests/cpp/test_schedule.cpp).
#pragma once

#include <stdint.h>

#include "common/host/host_device.h"

namespace hunyuan::attention {

HUNYUAN_HOST_DEVICE constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// One tile of queries of one head.
struct Work {
  int batch, head, query_tile;
};

// Head-major order: all blocks of the grid work on one head at a time, so its keys and values stay in L2 (a head of
// 119,056 tokens is 61 MB in bf16, an H200 has 60 MB of L2). `query_tiles` counts tiles or clusters of tiles.
struct Schedule {
  int batch, heads, query_tiles;
  HUNYUAN_HOST_DEVICE constexpr int count() const { return batch * heads * query_tiles; }
  HUNYUAN_HOST_DEVICE constexpr Work operator[](int index) const {
    return {index / query_tiles / heads, index / query_tiles % heads, index % query_tiles};
  }
};

// The key tiles a query tile visits, from the last to the first: only the first visited one can be cut by the number of
// keys, so the main loop needs no mask.
struct KeyTiles {
  int left;              // tiles still to visit, with the current one; 0: none
  int tile;              // the current one
  const int32_t* block;  // its block in the mask; null: all tiles, one after the other
  int tiles_per_block;

  HUNYUAN_HOST_DEVICE constexpr void next() {
    --left;
    if (block && left > 0 && tile == *block * tiles_per_block) {
      --block;
      tile = (*block + 1) * tiles_per_block - 1;
    } else {
      --tile;
    }
  }
};

HUNYUAN_HOST_DEVICE constexpr KeyTiles all_key_tiles(int keys, int tile_keys) {
  const int count = ceil_div(keys, tile_keys);
  return {count, count - 1, nullptr, 1};
}

// The blocks that row `query_tile / tiles_per_row` of a block mask in compressed sparse rows names, in ascending order;
// what starts past the last key is dropped.
HUNYUAN_HOST_DEVICE constexpr KeyTiles mask_key_tiles(const int32_t* row_starts, const int32_t* key_blocks,
                                                      int query_tile, int tiles_per_row, int tiles_per_block, int keys,
                                                      int tile_keys) {
  const int row = query_tile / tiles_per_row, begin = row_starts[row], limit = ceil_div(keys, tile_keys);
  int last = row_starts[row + 1] - 1;
  while (last >= begin && key_blocks[last] * tiles_per_block >= limit) --last;
  if (last < begin) return {0, -1, nullptr, 1};
  const int first_tile = key_blocks[last] * tiles_per_block;
  const int end_tile = first_tile + tiles_per_block < limit ? first_tile + tiles_per_block : limit;
  return {(last - begin) * tiles_per_block + end_tile - first_tile, end_tile - 1, key_blocks + last, tiles_per_block};
}

// The keys that a row of a block mask names, one after the other, as a sequence of their own: its tiles are as wide as
// those of all keys, and a mask of all blocks gives exactly them.
struct MaskKeys {
  const int32_t* blocks;
  int block_keys;
  int count;  // keys

  // Where key number `key` of the sequence lies.
  HUNYUAN_HOST_DEVICE constexpr int row(int key) const {
    return blocks[key / block_keys] * block_keys + key % block_keys;
  }
  // Whether keys [first, first + length), as far as they exist, lie next to each other.
  HUNYUAN_HOST_DEVICE constexpr bool together(int first, int length) const {
    const int last = first + length < count ? first + length - 1 : count - 1;
    return row(last) - row(first) == last - first;
  }
};

// Row `row` of a block mask in compressed sparse rows, in ascending order; of the keys only the first `keys` exist.
HUNYUAN_HOST_DEVICE constexpr MaskKeys mask_keys(const int32_t* row_starts, const int32_t* key_blocks, int row,
                                                 int block_keys, int keys) {
  const int begin = row_starts[row];
  int last = row_starts[row + 1] - 1;
  while (last >= begin && key_blocks[last] * block_keys >= keys) --last;
  if (last < begin) return {nullptr, block_keys, 0};
  const int rest = keys - key_blocks[last] * block_keys;
  return {key_blocks + begin, block_keys, (last - begin) * block_keys + (rest < block_keys ? rest : block_keys)};
}

// Valid keys of a sample: kv_len[batch] limited to what exists, or all.
HUNYUAN_HOST_DEVICE constexpr int valid_keys(const int32_t* kv_len, int batch, int keys) {
  if (!kv_len) return keys;
  const int valid = kv_len[batch];
  return valid < 0 ? 0 : valid < keys ? valid : keys;
}

}  // namespace hunyuan::attention
