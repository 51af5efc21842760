// What the CPU attention's driver (attention/rope_attention.cpp) and its kernels share. A call is cut into heads; keys
// and values of a head are packed once, then its tiles of queries are computed independently of each other.
#pragma once

#include "attention/attention.h"
#include "hunyuan/attention.h"

namespace hunyuan {
namespace attention::cpu {

// Packed operands are blocks of 16 rows of 64 bytes: what one AMX tile, or 16 AVX-512 registers, hold. A row of a block
// is one step along the summed dimension (two bfloat16 values or one float32) for 16 columns.
constexpr int64_t kBlockBytes = 1024;
constexpr int64_t kPanel = 16;       // columns of a block
constexpr int64_t kPackedKeys = 32;  // keys that are packed at a time: both kinds of block divide it

constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Keys [begin, end).
struct KeyRange {
  int64_t begin, end;
};

struct Problem {
  const hunyuan_rope_attention_args* args;
  QkNormWeights weights[2];  // of q and k
  int64_t depth;             // head_dim, padded with zeros to what the packed blocks need
  int64_t value_stride;      // bytes from 32 columns of packed values to the next
  float factor;              // exp(scale * x) = 2 ^ (factor * x)
};

// Keys and values of one head.
struct Packed {
  char* keys;      // [panel of 16 keys][block along head_dim]
  char* values;    // [32 of head_dim][block along the keys][2 panels of 16]: a product reads them in order
  float* squares;  // for every 32 keys, the largest square of a norm
};

// Queries [first, first + count) of one head, and the keys they see: ascending, not empty, within the valid keys.
struct Tile {
  int64_t sample, head, first, count;
  const KeyRange* ranges;
  int64_t range_count;
  float key_square;  // largest square of the norm of a key
};

// The maximum, or NaN where there is one.
inline float larger(float most, float value) { return value > most || value != value ? value : most; }

// Whether |factor * q k| stays below 60 by the norms of q and k: then 2^(factor * q k) and its sums are far from both
// ends of float32, and softmax needs no maximum. RMS-normed heads of 128 have bounds of about 16. No, where a norm is
// NaN.
inline bool scores_are_bounded(float factor, float query_square, float key_square) {
  constexpr double kLimit = 60.0;
  return double{query_square} * key_square * factor * factor < kLimit * kLimit;
}

}  // namespace attention::cpu

// float32 arithmetic at each level; bfloat16 inputs are widened.
HUNYUAN_KERNEL(rope_attention_pack, const attention::cpu::Problem& problem, int64_t sample, int64_t head,
               int64_t first_key, int64_t valid_keys, const attention::cpu::Packed& packed)
HUNYUAN_KERNEL(rope_attention_tile, const attention::cpu::Problem& problem, const attention::cpu::Tile& tile,
               const attention::cpu::Packed& packed)

// bfloat16 products, float32 sums.
#if defined(HUNYUAN_AVX512BF16)
namespace avx512bf16 {
void rope_attention_pack(const attention::cpu::Problem& problem, int64_t sample, int64_t head, int64_t first_key,
                         int64_t valid_keys, const attention::cpu::Packed& packed);
void rope_attention_tile(const attention::cpu::Problem& problem, const attention::cpu::Tile& tile,
                         const attention::cpu::Packed& packed);
}  // namespace avx512bf16
#endif
#if defined(HUNYUAN_AMX)
namespace amx {  // packs bfloat16 as avx512bf16 does
void rope_attention_tile(const attention::cpu::Problem& problem, const attention::cpu::Tile& tile,
                         const attention::cpu::Packed& packed);
// float32 as sums of three bfloat16 numbers.
void rope_attention_pack_split(const attention::cpu::Problem& problem, int64_t sample, int64_t head, int64_t first_key,
                               int64_t valid_keys, const attention::cpu::Packed& packed);
void rope_attention_tile_split(const attention::cpu::Problem& problem, const attention::cpu::Tile& tile,
                               const attention::cpu::Packed& packed);
}  // namespace amx
#endif

namespace attention::cpu {

constexpr int64_t kMostTileQueries = 256;
constexpr int64_t kMostDepth = 128;

// An arithmetic unit and its kernels.
struct Unit {
  int64_t tile_queries;   // most queries of a tile
  int64_t element_bytes;  // of a packed number
  void (*pack)(const Problem&, int64_t sample, int64_t head, int64_t first_key, int64_t valid_keys, const Packed&);
  void (*tile)(const Problem&, const Tile&, const Packed&);
};

// Null where this build or this processor, at the level in use, lacks it.
const Unit* find_unit(hunyuan_attention_unit unit);

}  // namespace attention::cpu
}  // namespace hunyuan
