// Work of products with packed weights: blocks of 16 columns, each with all rows or, where columns are few, parts of
// them.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "common/host/parallel.h"

namespace hunyuan {

// Calls run(first column, first row, end row, memory) with at least `floats` floats of memory. False where there is
// none left. Each call packs its weights, and a row's result does not depend on the split.
template <class Run>
bool parallel_columns(int64_t columns, int64_t rows, int64_t work, int64_t floats, int threads, Run&& run) {
  constexpr int64_t kColumns = 16, kRowsOfTask = 64, kTasksPerThread = 2;
  const int64_t blocks = (columns + kColumns - 1) / kColumns, wanted = threads > 1 ? threads * kTasksPerThread : 1;
  const int64_t most = (rows + kRowsOfTask - 1) / kRowsOfTask;
  int64_t parts = blocks < wanted ? (wanted + blocks - 1) / blocks : 1;
  parts = parts < most ? parts : most;
  std::atomic<bool> enough{true};  // nothing may be thrown out of a parallel region
  const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) + 63) / 64 * 64;
  parallel_items(blocks * parts, work, threads, [&](int64_t item) {
    const std::unique_ptr<float, decltype(&std::free)> memory(static_cast<float*>(std::aligned_alloc(64, bytes)),
                                                              &std::free);
    if (!memory) return enough.store(false, std::memory_order_relaxed);
    const int64_t part = item % parts;
    run(item / parts * kColumns, rows * part / parts, rows * (part + 1) / parts, memory.get());
  });
  return enough;
}

}  // namespace hunyuan
