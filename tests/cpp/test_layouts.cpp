// Shared memory layouts and matrix descriptors against an independent model of the hardware: TMA places a byte of a
// 128-byte wide box by exchanging address bits 4-6 with their exclusive or with bits 7-9; wgmma finds an element of an
// operand from its descriptor and applies the same exchange (PTX ISA, shared memory matrix layout).
#include <set>
#include <vector>

#include "attention/sm80/tile.h"
#include "attention/sm90/tile.h"
#include "check.h"
#include "common/ptx/fragment.h"

using namespace hunyuan;
using namespace hunyuan::attention;

namespace {

uint32_t exchanged(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// Fields of a descriptor as the hardware decodes them, in bytes.
struct Descriptor {
  uint32_t start, leading, stride, layout;
  explicit Descriptor(uint64_t bits)
      : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4),
        layout(static_cast<uint32_t>(bits >> 62)) {}
};

// Byte `k_byte` of row `row` of an operand with K along its panels.
uint32_t k_major_address(uint64_t bits, int row, int k_byte) {
  const Descriptor d(bits);
  return exchanged(d.start + row / 8 * d.stride + row % 8 * 128 + k_byte);
}

// Element (k, n) of two bytes of an operand with N along its panels.
uint32_t n_major_address(uint64_t bits, int k, int n) {
  const Descriptor d(bits);
  return exchanged(d.start + n / 64 * d.leading + k / 8 * d.stride + k % 8 * 128 + n % 64 * 2);
}

// Where TMA puts byte `byte` of row `row` of a box of panels whose tile starts at `tile`.
uint32_t copied_address(uint32_t tile, int rows, int row, int byte) {
  return exchanged(tile + byte / 128 * rows * 128 + row * 128 + byte % 128);
}

template <class T>
void products_read_what_was_copied() {
  using namespace attention::sm90;
  const uint32_t query = 1024, key = query + T::kQueryBytes + T::kKeyBytes, value = key + T::kStages * T::kKeyBytes;
  for (int group = 0; group < T::kGroups; ++group)
    for (int k = 0; k < T::kHeadDim; k += T::kStep)
      for (int row = 0; row < 64; ++row)
        for (int e = 0; e < T::kStep; ++e)
          CHECK(k_major_address(query_operand<T>(query, group, k), row, 2 * e) ==
                    copied_address(query, T::kRows, group * 64 + row, 2 * (k + e)),
                "query group %d step %d row %d element %d", group, k, row, e);
  for (int k = 0; k < T::kHeadDim; k += T::kStep)
    for (int row = 0; row < T::kKeys; ++row)
      for (int e = 0; e < T::kStep; ++e)
        CHECK(k_major_address(key_operand<T>(key, k), row, 2 * e) == copied_address(key, T::kKeys, row, 2 * (k + e)),
              "key %d step %d element %d", row, k, e);
  for (int k = 0; k < T::kKeys; k += T::kStep)
    for (int e = 0; e < T::kStep; ++e)
      for (int n = 0; n < T::kHeadDim; ++n)
        CHECK(n_major_address(value_operand<T>(value, k), e, n) == copied_address(value, T::kKeys, k + e, 2 * n),
              "value %d step %d column %d", e, k, n);
  CHECK(Descriptor(value_operand<T>(value, 0)).layout == 1, "the 128-byte swizzle is layout 1");
}

// The shares that the blocks of a cluster copy tile the whole key tile.
template <class T>
void shares_cover_the_tile() {
  using namespace attention::sm90;
  std::set<uint32_t> filled;
  for (int rank = 0; rank < T::kCluster; ++rank)
    for (int panel = 0; panel < T::kPanels; ++panel) {
      const uint32_t box = 1024 + panel * T::kKeyPanelBytes + rank * T::kBoxKeys * 128;
      CHECK(box % 1024 == 0, "a box starts at a multiple of the swizzle atom");
      for (int row = 0; row < T::kBoxKeys; ++row)
        for (int byte = 0; byte < 128; byte += 16) {
          const uint32_t at = exchanged(box + row * 128 + byte);
          CHECK(at == copied_address(1024, T::kKeys, rank * T::kBoxKeys + row, panel * 128 + byte), "share");
          CHECK(filled.insert(at).second, "written twice");
        }
    }
  CHECK(static_cast<int>(filled.size()) * 16 == T::kKeyBytes, "%zu chunks", filled.size());
}

void offsets_agree() {
  for (int rows : {64, 128, 176})
    for (int row = 0; row < rows; ++row)
      for (int byte = 0; byte < 256; ++byte) {
        CHECK(1024 + ptx::tile_offset(rows, row, byte) == copied_address(1024, rows, row, byte), "tile offset");
        // a fragment starts at 0 or 16 bytes and is moved along the row in steps of 32
        if (byte % 16 == 0)
          CHECK(ptx::along_row(1024 + ptx::tile_offset(rows, row, byte % 32), byte / 32 * 32, rows * 128) ==
                    1024 + ptx::tile_offset(rows, row, byte),
                "rows %d row %d byte %d", rows, row, byte);
      }
}

// A warp's accumulators, staged as 4-byte words and read back as 16-byte chunks of rows: complete, and without two
// lanes in one bank at a time.
template <int kHeadDim>
void staging_is_complete_and_conflict_free() {
  std::set<uint32_t> words;
  for (int i = 0; i < kHeadDim / 2; i += 2) {
    std::set<uint32_t> banks;
    for (int lane = 0; lane < 32; ++lane) {
      const uint32_t at = ptx::tile_offset(128, ptx::accumulator_row(lane, i), 2 * ptx::accumulator_column(lane, i));
      CHECK(at % 4 == 0 && words.insert(at).second, "register %d lane %d", i, lane);
      banks.insert(at / 4 % 32);
    }
    CHECK(banks.size() == 32, "stores of register %d use %zu banks", i, banks.size());
  }
  CHECK(words.size() == 16 * kHeadDim / 2, "%zu words", words.size());
  const int chunks = kHeadDim / 8;
  for (int i = 0; i < 16 * chunks; i += 8) {
    std::set<uint32_t> banks;
    for (int lane = 0; lane < 8; ++lane)
      banks.insert(ptx::tile_offset(128, (i + lane) / chunks, (i + lane) % chunks * 16) / 16 % 8);
    CHECK(banks.size() == 8, "loads from chunk %d use %zu bank groups", i, banks.size());
  }
}

}  // namespace

int main() {
  products_read_what_was_copied<sm90::Traits<128, false>>();
  products_read_what_was_copied<sm90::Traits<128, true>>();
  products_read_what_was_copied<sm90::Traits<64, false>>();
  products_read_what_was_copied<sm90::Traits<64, true>>();
  shares_cover_the_tile<sm90::Traits<128, false>>();
  shares_cover_the_tile<sm90::Traits<64, false>>();
  shares_cover_the_tile<sm90::Traits<64, true>>();
  offsets_agree();
  staging_is_complete_and_conflict_free<128>();
  staging_is_complete_and_conflict_free<64>();
  return report();
}
