// Attention with AMX: a tile register holds one packed block, and tdpbf16ps multiplies two of them in 16 cycles.
#include "attention/cpu/bf16_weights.h"
#include "attention/cpu/flash.h"
#include "common/amx.h"

namespace hunyuan::amx {
namespace {

using namespace hunyuan::avx512;

struct TileUnit {
  using Element = bf16;
  static constexpr int64_t kRows = 32;
  static constexpr int kExponent = 4;

  using Scope = TileScope;

  // Four tiles of sums (32 rows, 32 columns), two of a and two of b.
  static void multiply(const Product& product) {
    fence();
    const int64_t a_bytes = product.a_stride * 2, c_bytes = product.c_stride * 4;
    for (int64_t column = 0; column < product.columns; column += 2 * kPanel) {
      const char* a = static_cast<const char*>(product.a);
      const char* b = product.b + column / kPanel * product.panel_stride;
      float* c = product.c + column;
      float* c_below = c + 16 * product.c_stride;
      if (product.accumulate) {
        _tile_loadd(0, c, c_bytes);
        _tile_loadd(1, c + 16, c_bytes);
        _tile_loadd(2, c_below, c_bytes);
        _tile_loadd(3, c_below + 16, c_bytes);
      } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      }
      for (int64_t block = 0; block < product.blocks; ++block, a += 64, b += product.block_stride) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, a_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + product.panel_stride, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 16 * a_bytes, a_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, c, c_bytes);
      _tile_stored(1, c + 16, c_bytes);
      _tile_stored(2, c_below, c_bytes);
      _tile_stored(3, c_below + 16, c_bytes);
    }
    fence();
  }

  static void store_weights(bf16* out, Vec a, Vec b) { store_pair(out, a, b); }
};

}  // namespace

void rope_attention_tile(const Problem& problem, const Tile& tile, const Packed& packed) {
  Flash<TileUnit>(problem, packed).run(tile);
}

}  // namespace hunyuan::amx
