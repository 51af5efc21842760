// Attention in float32 arithmetic, for every level.
#include "attention/cpu/register_product.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

struct MultiplyAdd {
  using Element = float;
  static Vec add(Vec sum, Vec a, Vec b) { return fma(a, b, sum); }
};

struct FloatUnit {
  using Element = float;
  static constexpr int64_t kRows = 24;
  static constexpr int kExponent = 5;
  // Two sums for each row, two registers of b and one of a: 27 of AVX-512's 32 registers, 15 of AVX2's 16.
  static constexpr int kAtATime = Vec::width == 16 ? 12 : Vec::width == 8 ? 6 : 4;

  static void multiply(const Product& product) { multiply_in_registers<MultiplyAdd, kAtATime, kRows>(product); }
  static Vec store_weights(float* out, Vec a, Vec b, Vec sum) {
    store(out, a);
    store(out + Vec::width, b);
    return sum + (a + b);
  }
};

}  // namespace

void rope_attention_pack(const Problem& problem, int64_t sample, int64_t head, int64_t first_key, int64_t valid_keys,
                         const Packed& packed) {
  pack_any<float>(problem, sample, head, first_key, valid_keys, packed);
}

void rope_attention_tile(const Problem& problem, const Tile& tile, const Packed& packed) {
  Flash<FloatUnit>(problem, packed).run(tile);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
