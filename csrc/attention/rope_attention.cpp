// rope_attention on the CPU: argument checks, the choice of unit, and the split of the work over threads. Every tile of
// the output is computed by one thread, in an order that does not depend on the others: any thread count gives the same
// bits.
#include <algorithm>
#include <new>
#include <vector>

#include "attention/cpu/float_norms.h"
#include "attention/cpu/rope_attention.h"
#include "attention/cpu/units.h"
#include "attention/forward.h"
#include "common/parallel.h"
#include "common/status.h"
#include "common/workspace.h"

namespace hunyuan {
namespace attention::cpu {
namespace {

// Packed heads are kept in about this many bytes, so that a call of many heads reuses cached memory.
constexpr int64_t kPackedBytes = int64_t{16} << 20;
constexpr int64_t kTilesPerThread = 4;

// The keys each row of a block list names, merged into ranges; without a list, one row of all keys.
struct KeyList {
  std::vector<KeyRange> ranges;
  std::vector<int64_t> starts{0};  // of each row in `ranges`
  int64_t query_tile;              // queries of a row
};

KeyList key_list(const hunyuan_rope_attention_args& args) {
  KeyList list;
  list.query_tile = args.row_starts ? args.query_tile : args.tokens;
  if (!args.row_starts) {
    list.ranges.push_back({0, args.tokens});
    list.starts.push_back(1);
    return list;
  }
  for (int64_t row = 0; row * args.query_tile < args.tokens; ++row) {
    for (int64_t i = args.row_starts[row]; i < args.row_starts[row + 1]; ++i) {
      const int64_t begin = args.key_blocks[i] * args.key_tile;
      const int64_t end = std::min(begin + args.key_tile, args.tokens);
      const bool first = static_cast<int64_t>(list.ranges.size()) == list.starts.back();
      if (begin >= end) continue;
      if (!first && list.ranges.back().end == begin)
        list.ranges.back().end = end;
      else
        list.ranges.push_back({begin, end});
    }
    list.starts.push_back(static_cast<int64_t>(list.ranges.size()));
  }
  return list;
}

// First queries of the tiles of a head, with the row of the list they belong to.
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
        list_(key_list(args)),
        tiles_(query_tiles(args.tokens, list_.query_tile, unit.tile_queries)),
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
    // Dynamic: tiles of a sparse list differ in work, and cores in speed.
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
    const KeyRange* begin = list_.ranges.data() + list_.starts[tile.row];
    const KeyRange* end = list_.ranges.data() + list_.starts[tile.row + 1];
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
  const KeyList list_;
  const std::vector<QueryTile> tiles_;
  Problem problem_;
  const FloatNorms norms_;
};

int check_list(const hunyuan_rope_attention_args& args) {
  if (!args.row_starts) return HUNYUAN_OK;
  if ((!args.key_blocks && args.list_pairs) || args.query_tile <= 0 || args.key_tile <= 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: a block list needs key_blocks and positive tiles");
  const int64_t rows = (args.tokens + args.query_tile - 1) / args.query_tile;
  if (rows > args.list_rows)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention: the block list covers %lld queries of %lld",
                static_cast<long long>(args.list_rows * args.query_tile), static_cast<long long>(args.tokens));
  for (int64_t row = 0; row < rows; ++row)
    if (args.row_starts[row] < 0 || args.row_starts[row] > args.row_starts[row + 1] ||
        args.row_starts[row + 1] > args.list_pairs)
      return fail(HUNYUAN_BAD_ARGUMENT,
                  "rope_attention: row_starts of the block list must rise from 0 to its %lld pairs",
                  static_cast<long long>(args.list_pairs));
  for (int64_t i = 0; i < args.list_pairs; ++i)
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
  return check_list(args);
}

}  // namespace
}  // namespace attention::cpu
}  // namespace hunyuan

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
