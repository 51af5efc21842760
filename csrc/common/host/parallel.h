// Splits work over OpenMP threads. Work items must be independent, so the result never depends on the split.
#pragma once

#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace hunyuan {

// Below this many elements a thread costs more to wake than it saves.
constexpr int64_t kSerialElements = 32768;

// Calls run(begin, end) on disjoint ranges that cover [0, items); `elements` is the size of the whole job.
template <class Run>
void parallel_ranges(int64_t items, int64_t elements, int threads, Run&& run) {
  int64_t parts = threads < items ? threads : items;
  if (elements < kSerialElements) parts = 1;
  if (parts <= 1) {
    if (items > 0) run(int64_t{0}, items);
    return;
  }
#if defined(_OPENMP)
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1)
#endif
  for (int64_t part = 0; part < parts; ++part) run(items * part / parts, items * (part + 1) / parts);
}

// Calls run(item) for every item, each on whichever thread is free.
template <class Run>
void parallel_items(int64_t items, int64_t elements, int threads, Run&& run) {
  [[maybe_unused]] const int64_t parts = elements < kSerialElements ? 1 : threads < items ? threads : items;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(dynamic, 1) if (parts > 1)
#endif
  for (int64_t item = 0; item < items; ++item) run(item);
}

}  // namespace hunyuan
