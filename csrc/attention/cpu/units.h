// The arithmetic units of the CPU attention and their kernels.
#pragma once

#include "attention/cpu/rope_attention.h"

namespace hunyuan::attention::cpu {

struct Unit {
  int64_t tile_queries;   // most queries of a tile
  int64_t element_bytes;  // of a packed number
  void (*pack)(const Problem&, int64_t sample, int64_t head, int64_t first_key, int64_t valid_keys, const Packed&);
  void (*tile)(const Problem&, const Tile&, const Packed&);
};

// Null where this build or this processor, at the level in use, lacks it.
const Unit* find_unit(hunyuan_attention_unit unit);

}  // namespace hunyuan::attention::cpu
