// common/ptx/sync.cuh for the emulator. An mbarrier is its 8 bytes of shared memory: arrivals that complete a phase,
// arrivals still missing, bytes still missing (may be negative for a while), parity of the current phase.
#pragma once

#include "common/ptx/shared_memory.cuh"

namespace hunyuan::ptx {

struct EmulatedBarrier {
  uint16_t arrivals, missing;
  int32_t bytes_and_parity;  // bytes * 2 + parity

  int32_t bytes() const { return (bytes_and_parity - parity()) / 2; }
  int parity() const { return bytes_and_parity & 1; }
  void set(int32_t bytes, int parity) { bytes_and_parity = bytes * 2 + parity; }
  void settle() {
    ::emulator::progress();
    if (missing != 0 || bytes() != 0) return;
    missing = arrivals;
    set(0, parity() ^ 1);
  }
  void arrive() {
    if (missing == 0) ::emulator::fault("mbarrier: more arrivals than it was initialized with");
    --missing;
    settle();
  }
  void landed(int32_t count) {
    set(bytes() - count, parity());
    settle();
  }
};
static_assert(sizeof(EmulatedBarrier) == 8, "an mbarrier has 64 bits");

inline EmulatedBarrier& emulated_barrier(uint32_t address) {
  if (address % 8) ::emulator::fault("mbarrier: its address must be a multiple of 8");
  return *reinterpret_cast<EmulatedBarrier*>(::emulator::shared_pointer(address));
}

inline bool elect_one() {
  (void)::emulator::shuffle(0, 0);
  return ::emulator::lane() == 0;
}

inline void barrier_init(uint32_t barrier, uint32_t arrivals) {
  emulated_barrier(barrier) = {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0};
}
inline void barrier_init_fence() {}
inline void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
  EmulatedBarrier& state = emulated_barrier(barrier);
  state.set(state.bytes() + static_cast<int32_t>(bytes), state.parity());
  state.arrive();
}
inline void barrier_arrive(uint32_t barrier) { emulated_barrier(barrier).arrive(); }
inline void barrier_arrive_remote(uint32_t barrier, uint32_t rank) {
  (void)::emulator::block_of_rank(rank);
  emulated_barrier((barrier & 0xffffff) | rank << 24).arrive();
}
inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  const EmulatedBarrier& state = emulated_barrier(barrier);
  ::emulator::wait_until("an mbarrier", [&] { return state.parity() != static_cast<int>(parity & 1); });
}

template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

inline void named_sync(int id, int threads) { ::emulator::named_sync(id, threads); }
inline void named_arrive(int id, int threads) { ::emulator::named_arrive(id, threads); }
inline uint32_t cluster_rank() { return ::emulator::thread().block->rank; }
inline void cluster_sync() { ::emulator::cluster_sync(); }
template <int kCount>
void registers_at_least() {}
template <int kCount>
void registers_at_most() {}
inline void proxy_fence() {}

}  // namespace hunyuan::ptx
