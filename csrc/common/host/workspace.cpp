#include "common/host/workspace.h"

#include <mutex>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace hunyuan {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::align_val_t kHugePage{int64_t{2} << 20};
constexpr int64_t kMostKept = int64_t{64} << 20;

struct Kept {
  std::mutex mutex;
  char* data = nullptr;
  int64_t bytes = 0;
};

// Never destroyed: threads may still compute while the process ends.
Kept& kept() {
  static Kept* const block = new Kept;
  return *block;
}

// Blocks of huge pages, where the system has them, are aligned to one.
bool is_huge(int64_t bytes) { return bytes >= static_cast<int64_t>(kHugePage); }

char* allocate(int64_t bytes) {
  void* data = ::operator new(bytes, is_huge(bytes) ? kHugePage : kAlignment);
#if defined(__linux__)
  if (is_huge(bytes)) madvise(data, bytes, MADV_HUGEPAGE);  // a hint: may fail
#endif
  return static_cast<char*>(data);
}

void release(char* data, int64_t bytes) { ::operator delete(data, is_huge(bytes) ? kHugePage : kAlignment); }

}  // namespace

Workspace::Workspace(int64_t bytes) {
  {
    const std::lock_guard<std::mutex> lock(kept().mutex);
    data_ = std::exchange(kept().data, nullptr);
    bytes_ = std::exchange(kept().bytes, 0);
  }
  if (bytes_ >= bytes) return;
  if (data_) release(data_, bytes_);
  data_ = allocate(bytes);
  bytes_ = bytes;
}

Workspace::~Workspace() {
  char* data = data_;
  int64_t bytes = bytes_;
  if (bytes <= kMostKept) {
    const std::lock_guard<std::mutex> lock(kept().mutex);
    if (kept().bytes < bytes) {
      std::swap(kept().data, data);
      std::swap(kept().bytes, bytes);
    }
  }
  if (data) release(data, bytes);
}

}  // namespace hunyuan
