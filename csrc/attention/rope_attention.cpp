// rope_attention on the CPU: argument checks, the choice of unit, and the split of the work over threads. Every tile of
// the output is computed by one thread, in an order that does not depend on the others: any thread count gives the same
// bits.
#include <algorithm>
#include <new>
#include <vector>

#include "attention/attention.h"
#include "attention/cpu/float_norms.h"
#include "attention/cpu/rope_attention.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "common/host/workspace.h"

namespace hunyuan {
namespace attention::cpu {

const Unit* find_unit(hunyuan_attention_unit unit) {
  if (unit == HUNYUAN_UNIT_FLOAT) {
    static const Unit units[] = {
        {96, 4, &scalar::rope_attention_pack, &scalar::rope_attention_tile},
#if defined(HUNYUAN_X86)
        {96, 4, &avx2::rope_attention_pack, &avx2::rope_attention_tile},
        {96, 4, &avx512::rope_attention_pack, &avx512::rope_attention_tile},
#endif
    };
    return &units[hunyuan_isa_in_use()];
  }
#if defined(HUNYUAN_AVX512BF16)
  if (unit == HUNYUAN_UNIT_BF16) {
    static const Unit dot{96, 2, &avx512bf16::rope_attention_pack, &avx512bf16::rope_attention_tile};
    return has_avx512_bf16() ? &dot : nullptr;
  }
#endif
#if defined(HUNYUAN_AMX)
  if (unit == HUNYUAN_UNIT_AMX) {
    static const Unit tiles{256, 2, &avx512bf16::rope_attention_pack, &amx::rope_attention_tile};
    return has_amx() ? &tiles : nullptr;
  }
  if (unit == HUNYUAN_UNIT_AMX_SPLIT) {
    static const Unit tiles{256, 6, &amx::rope_attention_pack_split, &amx::rope_attention_tile_split};
    return has_amx() ? &tiles : nullptr;
  }
#endif
  return nullptr;
}

namespace {

// Packed heads are kept in about this many bytes, so that a call of many heads reuses cached memory.
constexpr int64_t kPackedBytes = int64_t{16} << 20;
constexpr int64_t kTilesPerThread = 4;

// The keys each row of a block mask names, merged into ranges; without one, one row of all keys.
struct KeyRanges {
  std::vector<KeyRange> ranges;
  std::vector<int64_t> starts{0};  // of each row in `ranges`
  int64_t query_tile;              // queries of a row
};

KeyRanges key_ranges(const hunyuan_rope_attention_args& args) {
  KeyRanges keys;
  keys.query_tile = args.row_starts ? args.query_tile : args.tokens;
  if (!args.row_starts) {
    keys.ranges.push_back({0, args.tokens});
    keys.starts.push_back(1);
    return keys;
  }
  for (int64_t row = 0; row * args.query_tile < args.tokens; ++row) {
    for (int64_t i = args.row_starts[row]; i < args.row_starts[row + 1]; ++i) {
      const int64_t begin = args.key_blocks[i] * args.key_tile;
      const int64_t end = std::min(begin + args.key_tile, args.tokens);
      const bool first = static_cast<int64_t>(keys.ranges.size()) == keys.starts.back();
      if (begin >= end) continue;
      if (!first && keys.ranges.back().end == begin)
        keys.ranges.back().end = end;
      else
        keys.ranges.push_back({begin, end});
    }
    keys.starts.push_back(static_cast<int64_t>(keys.ranges.size()));
  }
  return keys;
}

// First queries of the tiles of a head, with the row of the mask they belong to.
struct QueryTile {
  int64_t first, count, row;
};

std::vector<QueryTile> query_tiles(int64_t tokens, int64_t per_row, int64_t most) {
  std::vector<QueryTile> tiles;
  for (int64_t row = 0; row * per_row < tokens; ++row) {
    const int64_t end = std::min((row + 1) * per_row, tokens);
    for (int64_t first = row * per_row; first < end; first += most)
      tiles.push_back({first, std::min(most, end - first), row});
  }
  return tiles;
}

class Call {
 public:
  Call(const hunyuan_rope_attention_args& args, const Unit& unit)
      : args_(args),
        unit_(unit),
        keys_(key_ranges(args)),
        tiles_(query_tiles(args.tokens, keys_.query_tile, unit.tile_queries)),
        norms_(args, problem_.weights) {
    problem_.args = &args;
    problem_.depth = round_up(args.head_dim, 32);
    problem_.value_stride = round_up(args.tokens, kPackedKeys) * 32 * unit.element_bytes;
    problem_.factor = exponent_factor(args.scale);
  }

  void run(int threads) {
    const int64_t heads = args_.batch * args_.heads, tiles = static_cast<int64_t>(tiles_.size());
    const int64_t tensor = round_up(args_.tokens, kPackedKeys) * problem_.depth * unit_.element_bytes;
    const int64_t packed_head = 2 * tensor + round_up(4 * chunks(), 64);
    const int64_t busy = (kTilesPerThread * threads + tiles - 1) / tiles;
    const int64_t group = std::min(heads, std::max({int64_t{1}, busy, kPackedBytes / packed_head}));
    const Workspace memory(packed_head * group);
    const auto packed = [&](int64_t i) {
      char* keys = memory.data() + i * packed_head;
      return Packed{keys, keys + tensor, reinterpret_cast<float*>(keys + 2 * tensor)};
    };
    for (int64_t head = 0; head < heads; head += group) run_group(head, std::min(group, heads - head), packed, threads);
  }

 private:
  template <class PackedHead>
  void run_group(int64_t first, int64_t count, const PackedHead& packed, int threads) {
    const int64_t elements = count * args_.tokens * args_.head_dim;
    parallel_ranges(count * chunks(), elements, threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        pack(first + i / chunks(), i % chunks() * kPackedKeys, packed(i / chunks()));
    });
    const int64_t tiles = static_cast<int64_t>(tiles_.size());
    // Dynamic: tiles of a sparse mask differ in work, and cores in speed.
    parallel_items(count * tiles, elements, threads,
                   [&](int64_t i) { attend(first + i / tiles, tiles_[i % tiles], packed(i / tiles)); });
  }

  int64_t chunks() const { return round_up(args_.tokens, kPackedKeys) / kPackedKeys; }

  int64_t valid_keys(int64_t sample) const { return args_.kv_len ? args_.kv_len[sample] : args_.tokens; }

  void pack(int64_t head, int64_t first_key, const Packed& packed) const {
    const int64_t sample = head / args_.heads, valid = valid_keys(sample);
    if (first_key < valid) unit_.pack(problem_, sample, head % args_.heads, first_key, valid, packed);
  }

  void attend(int64_t head, const QueryTile& tile, const Packed& packed) const {
    const int64_t sample = head / args_.heads, valid = valid_keys(sample);
    const KeyRange* begin = keys_.ranges.data() + keys_.starts[tile.row];
    const KeyRange* end = keys_.ranges.data() + keys_.starts[tile.row + 1];
    std::vector<KeyRange> ranges;
    for (; begin < end && begin->begin < valid; ++begin) ranges.push_back({begin->begin, std::min(begin->end, valid)});
    float key_square = 0.0f;
    for (int64_t i = 0; i * kPackedKeys < valid; ++i) key_square = larger(key_square, packed.squares[i]);
    unit_.tile(problem_,
               {sample, head % args_.heads, tile.first, tile.count, ranges.data(), static_cast<int64_t>(ranges.size()),
                key_square},
               packed);
  }

  const hunyuan_rope_attention_args& args_;
  const Unit& unit_;
  const KeyRanges keys_;
  const std::vector<QueryTile> tiles_;
  Problem problem_;
  const FloatNorms norms_;
};

int check_block_mask(const hunyuan_rope_attention_args& args) {
  if (!args.row_starts) return HUNYUAN_OK;
  if ((!args.key_blocks && args.mask_pairs) || args.query_tile <= 0 || args.key_tile <= 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: a block mask needs key_blocks and positive tiles");
  const int64_t rows = (args.tokens + args.query_tile - 1) / args.query_tile;
  if (rows > args.mask_rows)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: the block mask covers %lld queries of %lld",
                static_cast<long long>(args.mask_rows * args.query_tile), static_cast<long long>(args.tokens));
  for (int64_t row = 0; row < rows; ++row)
    if (args.row_starts[row] < 0 || args.row_starts[row] > args.row_starts[row + 1] ||
        args.row_starts[row + 1] > args.mask_pairs)
      return fail(HUNYUAN_BAD_ARGUMENT,
                  "rope_attention: row_starts of the block mask must rise from 0 to its %lld pairs",
                  static_cast<long long>(args.mask_pairs));
  for (int64_t i = 0; i < args.mask_pairs; ++i)
    if (args.key_blocks[i] < 0) return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: key blocks must not be negative");
  return HUNYUAN_OK;
}

int check(const hunyuan_rope_attention_args& args) {
  if (args.batch < 0 || args.tokens < 0 || args.heads < 0 || args.text_tokens < 0 || args.text_tokens > args.tokens)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: sizes must not be negative, text a part of the tokens");
  if (args.dtype != HUNYUAN_F32 && args.dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "rope_attention: the CPU kernel takes float32 or bfloat16");
  if (args.head_dim < 16 || args.head_dim > kMostDepth || args.head_dim % 16 != 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: head_dim must be a multiple of 16 up to %lld, got %lld",
                static_cast<long long>(kMostDepth), static_cast<long long>(args.head_dim));
  if (args.lse && args.unit != HUNYUAN_UNIT_AMX)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: only the AMX unit writes the log-sum-exp");
  if (!(args.scale > 0.0f))
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: scale must be positive, got %g", args.scale);
  for (int64_t b = 0; args.kv_len && b < args.batch; ++b)
    if (args.kv_len[b] < 1 || args.kv_len[b] > args.tokens)
      return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: kv_len %lld, but there are %lld tokens",
                  static_cast<long long>(args.kv_len[b]), static_cast<long long>(args.tokens));
  return check_block_mask(args);
}

}  // namespace
}  // namespace attention::cpu
}  // namespace hunyuan

extern "C" int hunyuan_has_attention_unit(hunyuan_attention_unit unit) {
  return hunyuan::attention::cpu::find_unit(unit) != nullptr;
}

extern "C" int hunyuan_rope_attention(const hunyuan_rope_attention_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "rope_attention: has no CUDA kernel");
  if (const int status = attention::cpu::check(*args)) return status;
  const attention::cpu::Unit* unit = attention::cpu::find_unit(args->unit);
  if (!unit)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: this processor, or this build, lacks the unit asked for");
  if (args->batch * args->heads * args->tokens == 0) return HUNYUAN_OK;
  try {
    attention::cpu::Call(*args, *unit).run(target.threads);
  } catch (const std::bad_alloc&) {
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: not enough memory for the packed keys and values");
  }
  return HUNYUAN_OK;
}
