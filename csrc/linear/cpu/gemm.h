// A task of the linear layer for any unit that multiplies packed tiles:
//   Unit::kInteger    int8 inputs and int32 sums, else bfloat16 and float32
//   Unit::Scope       what a thread holds while it multiplies
//   Unit::multiply(Product, between)  calls between(n) now and then: n rows of other work that fit beside
//   Unit::kCorrects   whether its inputs are unsigned, 128 above their values
// Included by one source per unit; everything here has internal linkage (common/simd.h says why).
#pragma once

#include "linear/cpu/epilogue.h"
#include "linear/cpu/pack.h"

namespace hunyuan::avx512 {
namespace {

using linear::kGroup;
using linear::kMostColumns;
using linear::Task;

// c [rows, 32] (+)= a [rows, 16 * blocks dwords] * b.
struct Product {
  const char* a;
  int64_t a_stride;      // bytes from one row to the next
  const char* b;         // tiles of 16 columns
  int64_t panel_stride;  // bytes to the tiles of the next 16 columns
  int64_t blocks;
  int64_t rows;               // 16 or 32
  int64_t used;               // rows that are more than padding
  float* c;                   // [rows][kPanel]
  const int32_t* correction;  // [kPanel] to subtract, or null
  bool accumulate;
};

// Rows of x that are needed next, on their way to the second cache a few lines at a time. Reading them only when they
// are needed would cost as much time as multiplying them: one core waits for about 11 GB/s.
struct RowsAhead {
  const char* at = nullptr;
  int64_t stride, width;  // bytes
  int64_t rows = 0, column = 0;

  void fetch(int64_t lines) {
    for (; lines > 0 && rows > 0; --lines) {
      _mm_prefetch(at + column, _MM_HINT_T1);
      column += 64;
      if (column < width) continue;
      column = 0, at += stride, --rows;
    }
  }
};

template <class Unit>
class Gemm {
 public:
  Gemm(const Job& job, const Task& task, const Scratch& scratch) : job(job), task(task), scratch(scratch) {}

  void run() {
    prepare_columns();
    for (int64_t c = 0; c < job.chunk_count;) {
      int64_t end = c;
      while (end < job.chunk_count && job.chunks[end].phase == job.chunks[c].phase) ++end;
      run_phase(c, end);
      c = end;
    }
    finish_rows<Unit::kInteger>(job, scratch, finished, kPanel);
  }

 private:
  // Scales and biases of the task's columns as float32.
  void prepare_columns() {
    const hunyuan_linear_args& args = *job.args;
    for (int64_t i = 0; i < kMostColumns; ++i) {
      const int64_t column = task.first_column + i;
      const bool real = i < task.columns && column < args.out_columns;
      float scale = 1.0f, bias = 0.0f;
      if (real && args.weight_dtype == HUNYUAN_I8) scale = args.weight_scale[column];
      if (real && args.weight_dtype == HUNYUAN_E4M3 && args.rows_per_scale == 1)
        scale = args.weight_scale[column * args.scale_row_stride];
      if (real && args.bias)
        bias = args.out_dtype == HUNYUAN_F32 ? static_cast<const float*>(args.bias)[column]
                                             : to_float(static_cast<const bf16*>(args.bias)[column]);
      scratch.scale[i] = scale, scratch.bias[i] = bias;
    }
  }

  // Chunks [begin, end): packed together.
  void run_phase(int64_t begin, int64_t end) {
    for (int64_t column = 0; column < task.columns; column += 16)
      pack_column_tile(job, task.first_column + column, job.chunks[begin].phase,
                       scratch.packed + column / 16 * job.packed_stride);
    if constexpr (Unit::kCorrects) correct_columns(begin, end);
    const typename Unit::Scope scope;
    const bool phases = job.chunks[job.chunk_count - 1].phase > 0;
    const int64_t group = phases || job.chunk_count == 1 ? task.strips : kGroup;
    for (int64_t strip = 0; strip < task.strips; strip += group) {
      const int64_t left = task.strips - strip;
      run_strips(begin, end, task.first_strip + strip, left < group ? left : group);
    }
  }

  // 128 times the sum of each column of packed weights: what inputs that are 128 too large add.
  void correct_columns(int64_t begin, int64_t end) {
    const __m512i ones = _mm512_set1_epi8(1);
    for (int64_t column = 0; column < task.columns; column += 16) {
      __m512i sum = _mm512_setzero_si512();
      for (int64_t c = begin; c < end; ++c) {
        const char* tile = scratch.packed + column / 16 * job.packed_stride + job.chunks[c].packed_offset;
        for (int64_t dword = 0; dword < job.chunks[c].blocks * 16; ++dword)
          sum = Unit::add_bytes(sum, ones, _mm512_load_si512(tile + dword * 64));
      }
      _mm512_store_si512(scratch.correction + column, _mm512_slli_epi32(sum, 7));
    }
  }

  void run_strips(int64_t begin, int64_t end, int64_t first, int64_t strips) {
    for (int64_t c = begin; c < end; ++c) {
      for (int64_t strip = 0; strip < strips; ++strip) {
        const bool wraps = strip + 1 == strips;
        const int64_t next = !wraps ? first + strip + 1 : c + 1 < end ? first : first + strips;
        look_ahead(next, job.chunks[!wraps ? c : c + 1 < end ? c + 1 : begin]);
        run_strip(first + strip, strip, c);
      }
    }
  }

  void look_ahead(int64_t strip, const Chunk& chunk) {
    ahead.rows = 0;
    if (strip >= task.first_strip + task.strips) return;
    const hunyuan_linear_args& args = *job.args;
    const int64_t batch = strip / job.strips_per_batch, token = strip % job.strips_per_batch * job.rows;
    const int64_t item = args.x_dtype == HUNYUAN_I8 ? 1 : 2, left = args.tokens - token;
    const int64_t* strides = args.x_stride[chunk.input];
    ahead.at =
        static_cast<const char*>(args.x[chunk.input]) + (batch * strides[0] + token * strides[1] + chunk.first) * item;
    ahead.stride = strides[1] * item, ahead.width = chunk.columns * item;
    ahead.rows = left < job.rows ? left : job.rows, ahead.column = 0;
  }

  // The lines that finished sums are written to (and read from, where there is a residual).
  void fetch_out(int64_t batch, int64_t token, int64_t rows, int64_t column) {
    const hunyuan_linear_args& args = *job.args;
    const int64_t item = args.out_dtype == HUNYUAN_F32 ? 4 : 2;
    const char* out =
        static_cast<const char*>(args.out) + (batch * args.out_stride[0] + token * args.out_stride[1] + column) * item;
    for (int64_t row = 0; row < rows; ++row) __builtin_prefetch(out + row * args.out_stride[1] * item, 1, 2);
    if (!args.residual || args.residual == args.out) return;
    const char* residual = static_cast<const char*>(args.residual) +
                           (batch * args.residual_stride[0] + token * args.residual_stride[1] + column) * item;
    for (int64_t row = 0; row < rows; ++row) _mm_prefetch(residual + row * args.residual_stride[1] * item, _MM_HINT_T1);
  }

  void run_strip(int64_t strip, int64_t slot, int64_t chunk_index) {
    const Chunk& chunk = job.chunks[chunk_index];
    const int64_t batch = strip / job.strips_per_batch, token = strip % job.strips_per_batch * job.rows;
    const int64_t left = job.args->tokens - token, rows = left < job.rows ? left : job.rows;
    Product product{};
    read_rows(chunk, batch, token, rows, product);
    product.panel_stride = job.packed_stride, product.blocks = chunk.blocks, product.rows = job.rows,
    product.used = rows;
    product.accumulate = chunk_index > 0;
    const bool starts_phase = chunk_index == 0 || job.chunks[chunk_index - 1].phase != chunk.phase;
    const bool single = job.chunk_count == 1, last = chunk_index + 1 == job.chunk_count;
    const int64_t panels = (task.columns + kPanel - 1) / kPanel;
    const int64_t lines_a_row = (chunk.blocks + panels - 1) / panels;  // 32 rows go by with each panel
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t block = single ? turn++ % 2 : 2 + slot * panels + panel;
      product.b = scratch.packed + 2 * panel * job.packed_stride + chunk.packed_offset;
      product.c = scratch.sums + block * kPanel * kPanel;
      product.correction = Unit::kCorrects && starts_phase ? scratch.correction + panel * kPanel : nullptr;
      if (last) fetch_out(batch, token, rows, task.first_column + panel * kPanel);
      Unit::multiply(product, [&](int64_t count) {
        finish_rows<Unit::kInteger>(job, scratch, finished, count);
        ahead.fetch(lines_a_row * count);
      });
      if (!last) continue;
      finish_rows<Unit::kInteger>(job, scratch, finished, kPanel);
      finished.sums = product.c, finished.next = 0;
      finished.batch = batch, finished.token = token, finished.rows = rows;
      finished.offset = panel * kPanel, finished.column = task.first_column + finished.offset;
      const int64_t wide = job.args->out_columns - finished.column;
      finished.columns = wide < kPanel ? wide : kPanel;
    }
  }

  // Rows of a chunk: as they are in x, or copied where they are too few or do not fill their blocks. (Copying them for
  // the first cache's sake, where strides collide in its sets, cost a quarter of the speed.)
  void read_rows(const Chunk& chunk, int64_t batch, int64_t token, int64_t rows, Product& product) {
    const hunyuan_linear_args& args = *job.args;
    const int64_t item = args.x_dtype == HUNYUAN_I8 ? 1 : 2, width = chunk.blocks * 64, bytes = chunk.columns * item;
    const int64_t* strides = args.x_stride[chunk.input];
    const char* x =
        static_cast<const char*>(args.x[chunk.input]) + (batch * strides[0] + token * strides[1] + chunk.first) * item;
    const int64_t stride = strides[1] * item;
    if (rows == job.rows && bytes == width) {
      product.a = x, product.a_stride = stride;
      return;
    }
    for (int64_t row = 0; row < rows; ++row) {
      char* to = scratch.rows + row * width;
      const char* from = x + row * stride;
      for (int64_t at = 0; at < width; at += 64)
        _mm512_store_si512(to + at, _mm512_maskz_loadu_epi8(first_bytes(bytes - at), from + at));
    }
    product.a = scratch.rows, product.a_stride = width;
  }

  const Job& job;
  const Task& task;
  const Scratch& scratch;
  Finished finished;
  RowsAhead ahead;
  int64_t turn = 0;
};

}  // namespace
}  // namespace hunyuan::avx512
