// Memory whose every byte outside the asked-for ones traps: pages without access on both sides, and the rest of the
// first or last page poisoned for AddressSanitizer. Pages also trap what the sanitizer does not see: masked loads and
// stores, tile registers, inline assembly.
#pragma once

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

class Buffer {
 public:
  // at_end: the last byte touches the guard page behind, else the first byte touches the one in front.
  Buffer(int64_t bytes, bool at_end) : bytes_(bytes) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    room_ = (bytes + page - 1) / page * page;
    mapped_ = room_ + 2 * page;
    map_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    first_ = map_ + page;
    if (map_ == MAP_FAILED || (room_ && mprotect(first_, room_, PROT_READ | PROT_WRITE))) {
      std::perror("guard pages");
      std::exit(2);
    }
    data_ = first_ + (at_end ? room_ - bytes : 0);
    ASAN_POISON_MEMORY_REGION(first_, data_ - first_);
    ASAN_POISON_MEMORY_REGION(data_ + bytes, first_ + room_ - data_ - bytes);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    ASAN_UNPOISON_MEMORY_REGION(first_, room_);
    munmap(map_, mapped_);
  }

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  void make_read_only() const {
    if (room_) mprotect(first_, room_, PROT_READ);
  }

 private:
  int64_t bytes_, room_, mapped_;
  char *map_, *first_, *data_;
};
