// hunyuan_linear: argument checks, choice of the unit, and how the product is split into tasks.
#include "linear/cpu/job.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <vector>

#include "common/host/column_tasks.h"
#include "common/host/isa.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "linear/linear.h"

namespace hunyuan::linear {
namespace {

constexpr int64_t kPackedBytes = 1 << 20;    // of a task: half of a second-level cache
constexpr int64_t kTasksPerThread = 2;       // at least, where the product is large enough
constexpr int64_t kMostStripsOfPhases = 32;  // of a task in phases: their sums fit the second cache

int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

RunTask* find_unit(hunyuan_linear_unit unit, hunyuan_dtype dtype) {
  if (dtype != HUNYUAN_BF16 && dtype != HUNYUAN_I8) return nullptr;
#if defined(HUNYUAN_AVX512BF16)
  if (!has_avx512_vbmi() || !has_avx512_bf16()) return nullptr;
#if defined(HUNYUAN_AMX)
  if (unit == HUNYUAN_LINEAR_AMX && has_amx()) return dtype == HUNYUAN_I8 ? &amx::linear_int8 : &amx::linear_bf16;
#endif
  if (unit == HUNYUAN_LINEAR_DOT && has_avx512_vnni())
    return dtype == HUNYUAN_I8 ? &avx512dot::linear_int8 : &avx512dot::linear_bf16;
#endif
  return nullptr;
}

// The summed dimension in pieces: the inputs, and parts of one length of an input that is long.
std::vector<Chunk> make_chunks(const hunyuan_linear_args& args) {
  const int64_t step = args.x_dtype == HUNYUAN_I8 ? 64 : 32, most = kMostBlocks * step;
  std::vector<Chunk> chunks;
  int64_t before = 0, offset = 0;
  for (int input = 0; input < 2; before += args.in_columns[input++]) {
    const int64_t columns = args.in_columns[input], parts = up(columns, most) / most;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t length = up((columns + parts - 1) / parts, step), first = part * length;
      if (first >= columns) break;
      const int64_t count = least(length, columns - first), blocks = up(count, step) / step;
      const bool fits = !chunks.empty() && offset / kTile + blocks <= kMostBlocks;
      const int64_t phase = chunks.empty() ? 0 : chunks.back().phase + !fits;
      offset = fits ? offset : 0;
      chunks.push_back({input, first, count, before + first, blocks, offset, phase});
      offset += blocks * kTile;
    }
  }
  return chunks;
}

// How many columns and strips a task has: as many columns as packed weights fit the second cache, but tasks enough to
// keep all threads busy; rows are split last, because each part packs the weights again.
struct Split {
  int64_t columns, column_tasks, strips, strip_tasks;
  int64_t sums;  // strips whose sums exist at a time
};

Split make_split(const Job& job, int64_t all_strips, int threads) {
  const int64_t wanted = threads > 1 ? threads * kTasksPerThread : 1;
  const int64_t out_columns = up(job.args->out_columns, kPanel);
  const bool phases = job.chunks[job.chunk_count - 1].phase > 0;
  int64_t columns = kPackedBytes / (job.packed_stride * 2) * kPanel;
  columns = columns > kMostColumns ? kMostColumns : columns < kPanel ? kPanel : columns;
  while (columns > 2 * kPanel && up(out_columns, columns) / columns < wanted) columns -= kPanel;
  const int64_t tasks = up(out_columns, columns) / columns;
  columns = up((out_columns + tasks - 1) / tasks, kPanel);  // all of one size
  Split split{columns, up(out_columns, columns) / columns, all_strips, 1, kGroup};
  int64_t parts = split.column_tasks < wanted ? (wanted + split.column_tasks - 1) / split.column_tasks : 1;
  if (phases) parts = most(parts, (all_strips + kMostStripsOfPhases - 1) / kMostStripsOfPhases);
  parts = least(parts, all_strips);
  split.strips = (all_strips + parts - 1) / parts;
  split.strip_tasks = (all_strips + split.strips - 1) / split.strips;
  split.sums = phases ? split.strips : kGroup;
  return split;
}

// A thread's memory, kept for its next call.
class Memory {
 public:
  // All null where there is none left.
  Scratch get(const Job& job, const Split& split) {
    const int64_t packed = split.columns / 16 * job.packed_stride;
    const int64_t sums = (split.sums * split.columns / kPanel + 2) * kPanel * kPanel * 4;
    const int64_t rows = kPanel * kMostBlocks * 64, vector = kMostColumns * 4;
    Scratch scratch{};
    char* memory = reserve(packed + sums + rows + 3 * vector);
    if (!memory) return scratch;
    scratch.sums = reinterpret_cast<float*>(memory);
    scratch.rows = memory + sums;
    scratch.scale = reinterpret_cast<float*>(scratch.rows + rows);
    scratch.bias = scratch.scale + kMostColumns;
    scratch.correction = reinterpret_cast<int32_t*>(scratch.bias + kMostColumns);
    scratch.packed = reinterpret_cast<char*>(scratch.correction + kMostColumns);
    return scratch;
  }

 private:
  char* reserve(int64_t bytes) {
    if (bytes > size_) {
      memory_.reset(static_cast<char*>(std::aligned_alloc(4096, static_cast<size_t>(up(bytes, 4096)))));
      size_ = memory_ ? up(bytes, 4096) : 0;
    }
    return memory_.get();
  }

  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char, Free> memory_;
  int64_t size_ = 0;
};

thread_local Memory thread_memory;

int check(const hunyuan_linear_args& args) {
  const auto bad = [](const char* what) { return fail(HUNYUAN_BAD_ARGUMENT, "linear: %s", what); };
  if (args.batch < 0 || args.tokens < 0 || args.out_columns < 0 || args.in_columns[0] <= 0 || args.in_columns[1] < 0)
    return bad("sizes must not be negative, and x needs a column");
  if (args.gelu_from % kPanel != 0 && args.gelu_from < args.out_columns)
    return bad("gelu_from must be a multiple of 32");
  const bool integer = args.x_dtype == HUNYUAN_I8, in_float = args.unit == HUNYUAN_LINEAR_FLOAT;
  if (in_float &&
      (integer || (args.x_dtype != HUNYUAN_F32 && args.x_dtype != HUNYUAN_BF16) ||
       (args.weight_dtype != HUNYUAN_F32 && args.weight_dtype != HUNYUAN_BF16 && args.weight_dtype != HUNYUAN_E4M3)))
    return fail(HUNYUAN_BAD_DTYPE,
                "linear: in float32, x is float32 or bfloat16 and the weight float32, bfloat16 or e4m3");
  if (!in_float && ((args.weight_dtype == HUNYUAN_I8) != integer ||
                    (!integer && args.weight_dtype != HUNYUAN_BF16 && args.weight_dtype != HUNYUAN_E4M3)))
    return fail(HUNYUAN_BAD_DTYPE, "linear: bfloat16 inputs need bfloat16 or e4m3 weights, int8 inputs int8 weights");
  if (args.out_dtype != HUNYUAN_BF16 && args.out_dtype != HUNYUAN_F32)
    return fail(HUNYUAN_BAD_DTYPE, "linear: writes bfloat16 or float32");
  const bool empty = args.batch * args.tokens * args.out_columns == 0;
  if (!empty && ((integer && !args.x_scale) || ((integer || args.weight_dtype == HUNYUAN_E4M3) && !args.weight_scale)))
    return bad("quantized operands need their scales");
  if (args.weight_dtype == HUNYUAN_E4M3) {
    const int64_t columns = args.in_columns[0] + args.in_columns[1];
    if (args.rows_per_scale <= 0 || args.columns_per_scale <= 0) return bad("a scale must cover a row and a column");
    if (args.rows_per_scale > 1 && (args.rows_per_scale % 16 != 0 || args.columns_per_scale % 32 != 0))
      return bad("blocks of scales must be multiples of 16 rows and 32 columns");
    if (args.rows_per_scale > 1 && args.in_columns[1] > 0 && args.in_columns[0] % 32 != 0)
      return bad("with blocks of scales the first input needs a multiple of 32 columns");
    if (args.rows_per_scale == 1 && args.columns_per_scale < columns) return bad("row scales must cover whole rows");
  }
  return HUNYUAN_OK;
}

int run_in_float(const hunyuan_linear_args& args, int threads) {
  const int64_t depth = args.in_columns[0] + args.in_columns[1], rows = args.batch * args.tokens;
  const auto kernel = HUNYUAN_PICK(linear_float_rows);
  return parallel_columns(
             args.out_columns, rows, rows * args.out_columns * depth / 8, depth * 17, threads,
             [&](int64_t first, int64_t begin, int64_t end, float* memory) { kernel(args, first, begin, end, memory); })
             ? HUNYUAN_OK
             : fail(HUNYUAN_BAD_ARGUMENT, "linear: no memory for the packed weights of a thread");
}

}  // namespace
}  // namespace hunyuan::linear

extern "C" int hunyuan_has_linear_unit(hunyuan_linear_unit unit, hunyuan_dtype dtype) {
  if (unit == HUNYUAN_LINEAR_FLOAT) return dtype == HUNYUAN_F32 || dtype == HUNYUAN_BF16;
  return hunyuan::linear::find_unit(unit, dtype) != nullptr;
}

extern "C" int hunyuan_linear(const hunyuan_linear_args* args, hunyuan_target target) {
  using namespace hunyuan;
  using namespace hunyuan::linear;
  if (const int status = check(*args)) return status;
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "linear: has no CUDA kernel");
  if (args->unit == HUNYUAN_LINEAR_FLOAT)
    return args->batch * args->tokens * args->out_columns > 0 ? run_in_float(*args, target.threads) : HUNYUAN_OK;
  RunTask* const run = find_unit(args->unit, args->x_dtype);
  if (!run) return fail(HUNYUAN_BAD_ARGUMENT, "linear: this build or processor lacks the unit");
  if (args->batch * args->tokens * args->out_columns == 0) return HUNYUAN_OK;

  const std::vector<Chunk> chunks = make_chunks(*args);
  Job job{args, chunks.data(), static_cast<int64_t>(chunks.size()), 0, args->tokens > 16 ? kPanel : 16, 0};
  for (const Chunk& chunk : chunks)
    job.packed_stride = most(job.packed_stride, chunk.packed_offset + chunk.blocks * kTile);
  job.strips_per_batch = (args->tokens + job.rows - 1) / job.rows;
  const int64_t strips = args->batch * job.strips_per_batch;
  const int64_t work = args->batch * args->tokens * args->out_columns * (args->in_columns[0] + args->in_columns[1]);
  const Split split = make_split(job, strips, work < kSerialElements * 8 ? 1 : target.threads);
  std::atomic<bool> out_of_memory{false};  // nothing may be thrown out of a parallel region
  parallel_items(split.column_tasks * split.strip_tasks, work / 8, target.threads, [&](int64_t item) {
    Task task{};
    task.first_column = item / split.strip_tasks * split.columns;
    task.columns = least(split.columns, up(args->out_columns - task.first_column, kPanel));
    task.first_strip = item % split.strip_tasks * split.strips;
    task.strips = least(split.strips, strips - task.first_strip);
    const Scratch scratch = thread_memory.get(job, split);
    scratch.packed ? run(job, task, scratch) : out_of_memory.store(true, std::memory_order_relaxed);
  });
  return out_of_memory ? fail(HUNYUAN_BAD_ARGUMENT, "linear: no memory for the packed weights of a thread")
                       : HUNYUAN_OK;
}
