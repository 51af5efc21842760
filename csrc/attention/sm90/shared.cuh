// Shared memory of a block and the barriers between its producer and its consumers, by address.
#pragma once

#include "attention/sm90/tile.h"
#include "common/ptx/sync.cuh"

namespace hunyuan::attention::sm90 {

// The query tile comes first and also stages the output, which is as large; then key and value tiles, then barriers.
template <class T>
struct Shared {
  uint32_t base;

  __device__ explicit Shared(const void* memory) : base(ptx::aligned_address(memory, ptx::kAtomBytes)) {}

  __device__ uint32_t query() const { return base; }
  __device__ uint32_t key(int stage) const { return base + T::kQueryBytes + stage * T::kKeyBytes; }
  __device__ uint32_t value(int stage) const { return key(T::kStages + stage); }

  // "full": the copy has landed; "empty": its readers are done.
  __device__ uint32_t query_full() const { return barrier(0); }
  __device__ uint32_t query_empty() const { return barrier(1); }
  __device__ uint32_t key_full(int stage) const { return barrier(2 + stage); }
  __device__ uint32_t key_empty(int stage) const { return barrier(2 + T::kStages + stage); }
  __device__ uint32_t value_full(int stage) const { return barrier(2 + 2 * T::kStages + stage); }
  __device__ uint32_t value_empty(int stage) const { return barrier(2 + 3 * T::kStages + stage); }

  // One thread, before any use of a barrier. An empty barrier collects one arrival from each consumer warp that reads
  // the slot: those of the whole cluster for keys and values, which arrive by multicast.
  __device__ void init() const {
    ptx::barrier_init(query_full(), 1);
    ptx::barrier_init(query_empty(), T::kConsumerWarps);
    for (int i = 0; i < T::kStages; ++i) {
      ptx::barrier_init(key_full(i), 1);
      ptx::barrier_init(value_full(i), 1);
      ptx::barrier_init(key_empty(i), T::kConsumerWarps * T::kCluster);
      ptx::barrier_init(value_empty(i), T::kConsumerWarps * T::kCluster);
    }
    ptx::barrier_init_fence();
  }

 private:
  __device__ uint32_t barrier(int index) const { return key(2 * T::kStages) + index * 8; }
};

// Named barriers (0 is __syncthreads).
constexpr int kTurnBarrier = 1;       // + group: the group's turn to issue products
constexpr int kConsumersBarrier = 3;  // all consumer warpgroups
constexpr int kGroupBarrier = 4;      // + group: one consumer warpgroup

// A consumer warp is done with a slot, in every block of the cluster that filled it.
template <class T>
__device__ void release_slot(uint32_t empty, int lane) {
  if constexpr (T::kCluster == 1) {
    if (lane == 0) ptx::barrier_arrive(empty);
  } else {
    if (lane < T::kCluster) ptx::barrier_arrive_remote(empty, lane);
  }
}

}  // namespace hunyuan::attention::sm90
