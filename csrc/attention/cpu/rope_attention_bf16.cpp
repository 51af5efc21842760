// Attention with AVX512-BF16: vdpbf16ps multiplies 16 pairs of bfloat16 and adds both products to float32 sums.
#include "attention/cpu/bf16_weights.h"
#include "attention/cpu/register_product.h"

namespace hunyuan::avx512bf16 {
namespace {

using namespace hunyuan::avx512;

struct DotPairs {
  using Element = bf16;
  static Vec add(Vec sum, Vec a, Vec b) {
    return {_mm512_dpbf16_ps(sum.lanes, reinterpret_cast<__m512bh>(a.lanes), reinterpret_cast<__m512bh>(b.lanes))};
  }
};

struct DotUnit {
  using Element = bf16;
  static constexpr int64_t kRows = 24;
  static constexpr int kExponent = 4;

  static void multiply(const Product& product) { multiply_in_registers<DotPairs, 12, kRows>(product); }
  static Vec store_weights(bf16* out, Vec a, Vec b, Vec sum) { return store_weight_pair(out, a, b, sum); }
};

}  // namespace

void rope_attention_pack(const Problem& problem, int64_t sample, int64_t head, int64_t first_key, int64_t valid_keys,
                         const Packed& packed) {
  pack_any<bf16>(problem, sample, head, first_key, valid_keys, packed);
}

void rope_attention_tile(const Problem& problem, const Tile& tile, const Packed& packed) {
  Flash<DotUnit>(problem, packed).run(tile);
}

}  // namespace hunyuan::avx512bf16
