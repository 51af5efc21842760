// Attention with AMX: a tile register holds one packed block, and tdpbf16ps multiplies two of them in 16 cycles.
#include "attention/cpu/tile_flash.h"

namespace hunyuan::amx {

void rope_attention_pack_split(const Problem& problem, int64_t sample, int64_t head, int64_t first_key,
                               int64_t valid_keys, const Packed& packed) {
  if (problem.args->dtype == HUNYUAN_F32)
    return pack_split<float>(problem, sample, head, first_key, valid_keys, packed);
  pack_split<bf16>(problem, sample, head, first_key, valid_keys, packed);
}

void rope_attention_tile(const Problem& problem, const Tile& tile, const Packed& packed) {
  TileFlash<1>(problem, packed).run(tile);
}

void rope_attention_tile_split(const Problem& problem, const Tile& tile, const Packed& packed) {
  TileFlash<3>(problem, packed).run(tile);
}

}  // namespace hunyuan::amx
