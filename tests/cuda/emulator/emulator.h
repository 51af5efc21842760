// Runs CUDA kernels on a CPU, for tests on machines without a GPU. Compiled in front of every kernel source by g++.
//
// A thread of a block is a fiber; the fibers of a cluster take turns in a random order, switching only where they wait
// (barriers, shuffles, asynchronous copies). What the hardware does asynchronously is done here at some moment between
// its start and its wait (see defer), so that a missing wait or a buffer reused too early gives wrong numbers.
// Faults (deadlock, diverged warp, misaligned copy) end the launch with a message.
//
// Not modelled: memory ordering (fences), bank conflicts, time, accesses outside of buffers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <typeindex>
#include <vector>

namespace emulator {

// Threads that do something together: every participant brings an argument, the last one to arrive acts for all.
struct Meeting {
  std::vector<void*> arguments;
  const void* kind = nullptr;
  int arrived = 0;
  uint64_t generation = 0;
};

struct NamedBarrier {
  int arrived = 0, expected = 0;
  uint64_t generation = 0;
};

struct Block {
  unsigned index = 0, rank = 0;  // in the grid, in the cluster
  std::vector<char> storage;     // dynamic shared memory, and room to align it
  char* shared = nullptr;        // 1024-byte aligned
  size_t shared_bytes = 0;
  int live = 0;                  // threads that have not returned
  std::vector<Meeting> warps, warpgroups;
  Meeting everyone;
  NamedBarrier named[16];
};

struct Thread {
  Block* block = nullptr;
  uint3 index{};
  std::map<std::type_index, std::shared_ptr<void>> own;  // see per_thread
};

Thread& thread();
Block& block_of_rank(unsigned rank);
unsigned cluster_size();
dim3 block_dim();
dim3 grid_dim();

// A value of type T that belongs to the running thread.
template <class T>
T& per_thread() {
  auto& slot = thread().own[typeid(T)];
  if (!slot) slot = std::make_shared<T>();
  return *static_cast<T*>(slot.get());
}

// Waits, giving other threads their turn, until ready() is true.
void wait_until(const char* what, const std::function<bool()>& ready);
// Gives other threads a few turns, so that they may overtake this one.
void pause();
// Says that something happened that another thread may be waiting for.
void progress();
// Ends the launch with this message.
[[noreturn]] void fault(const std::string& message);
// Runs `action` now or at a later moment, at the latest when every thread waits or finish(ticket) is called. The seed
// decides: 0 a random moment; 1 copies at once and products as late as possible; 2 the other way round; 3 all at once;
// 4 all as late as possible; then again from 0.
enum class Work { kCopy, kProduct };
uint64_t defer(Work kind, std::function<void()> action);
void finish(uint64_t ticket);

// All `count` participants bring `argument`; the last to arrive runs act(arguments of all).
void meet(Meeting& meeting, int count, int slot, void* argument, const void* kind,
          const std::function<void(void**)>& act);

Meeting& warp_meeting();
Meeting& warpgroup_meeting();
inline int lane() { return thread().index.x % 32; }

void sync_threads();
void named_sync(int id, int threads);
void named_arrive(int id, int threads);
void cluster_sync();

// Shared addresses: the rank of the block in the high bits, the offset in the low ones.
uint32_t shared_address(const void* pointer);
char* shared_pointer(uint32_t address);

// Runs every thread of the grid; returns an error message, or "" when all went well.
std::string run(int64_t blocks, unsigned threads, size_t shared_bytes, unsigned cluster,
                const std::function<void()>& kernel);

template <class T>
T shuffle(T value, int source) {
  struct Argument {
    T value, result;
    int source;
  } mine{value, value, source};
  static const char kind = 0;
  meet(warp_meeting(), 32, lane(), &mine, &kind, [](void** all) {
    for (int i = 0; i < 32; ++i) {
      auto* to = static_cast<Argument*>(all[i]);
      if (to->source >= 0 && to->source < 32) to->result = static_cast<Argument*>(all[to->source])->value;
    }
  });
  return mine.result;
}

}  // namespace emulator

#undef __shared__
#define __shared__ static
#define threadIdx (::emulator::thread().index)
#define blockIdx (uint3{::emulator::thread().block->index, 0, 0})
#define blockDim (::emulator::block_dim())
#define gridDim (::emulator::grid_dim())
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

inline void __syncthreads() { ::emulator::sync_threads(); }
inline void __syncwarp(unsigned = 0xffffffffu) { (void)::emulator::shuffle(0, 0); }
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  if (mask != 0xffffffffu) ::emulator::fault("shuffle: only full warps are modelled");
  return ::emulator::shuffle(value, ::emulator::lane() ^ lanes);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  if (mask != 0xffffffffu) ::emulator::fault("shuffle: only full warps are modelled");
  return ::emulator::shuffle(value, source);
}
template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __saturatef(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
inline float __logf(float x) { return std::log(x); }
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline float __int_as_float(int bits) { return __uint_as_float(static_cast<unsigned>(bits)); }
