// Memory for one call, kept for the next one: large blocks fresh from the system cost a page fault every 4 KB.
#pragma once

#include <cstdint>

namespace hunyuan {

// At least `bytes` bytes, 64-byte aligned and not initialized. Throws std::bad_alloc. Calls at the same time get
// different memory; one block of at most 64 MB is kept.
class Workspace {
 public:
  explicit Workspace(int64_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  char* data() const { return data_; }

 private:
  char* data_;
  int64_t bytes_;
};

}  // namespace hunyuan
