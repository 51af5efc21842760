// Shared memory of a block and the barriers between its producer and its consumers, by address.
#pragma once

#include "attention/sm90/tile.h"
#include "common/ptx/sync.cuh"

namespace hunyuan::attention::sm90 {

// The query tile, key and value tiles, room to stage the output where the query tile is too small for it, barriers.
template <class T>
struct Shared {
  uint32_t base;

  __device__ explicit Shared(const void* memory) : base(ptx::aligned_address(memory, ptx::kAtomBytes)) {}

  __device__ uint32_t query() const { return base; }
  __device__ uint32_t key(int stage) const { return base + T::kQueryBytes + stage * T::kKeyBytes; }
  __device__ uint32_t value(int stage) const { return key(T::kStages + stage); }
  __device__ uint32_t staging() const { return T::kOwnStaging ? key(2 * T::kStages) : base; }

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
  static constexpr int kStagingBytes = T::kOwnStaging ? T::kOutBytes : 0;
  __device__ uint32_t barrier(int index) const { return key(2 * T::kStages) + kStagingBytes + index * 8; }
};

// Named barriers (0 is __syncthreads).
constexpr int kTurnBarrier = 1;       // + group: the group's turn to issue products
constexpr int kConsumersBarrier = 3;  // all consumer warpgroups
constexpr int kGroupBarrier = 4;      // + group: one consumer warpgroup

// What every consumer does with the barriers: waits for tiles, hands them back, takes turns.
template <class T>
struct ConsumerPipeline {
  const Shared<T> shared;
  const int group, thread;  // warpgroup, and thread within it
  ptx::Ring<T::kStages> key_slot{}, value_slot{};
  uint32_t query_parity = 0;

  __device__ int lane() const { return thread % kWarp; }
  __device__ uint32_t key() const { return shared.key(key_slot.stage); }
  __device__ uint32_t value() const { return shared.value(value_slot.stage); }

  __device__ void wait_query() {
    ptx::barrier_wait(shared.query_full(), query_parity);
    query_parity ^= 1;
  }
  __device__ void wait_key() const { ptx::barrier_wait(shared.key_full(key_slot.stage), key_slot.parity); }
  __device__ void wait_value() const { ptx::barrier_wait(shared.value_full(value_slot.stage), value_slot.parity); }

  // The staged output has been read: the next query may overwrite it.
  __device__ void release_query() const {
    ptx::proxy_fence();
    __syncwarp();
    if (lane() == 0) ptx::barrier_arrive(shared.query_empty());
  }
  __device__ void release_key() {
    release(shared.key_empty(key_slot.stage));
    key_slot.advance();
  }
  __device__ void release_value() {
    release(shared.value_empty(value_slot.stage));
    value_slot.advance();
  }

  // Turns of issuing products: group 0 begins; every take is followed by a give.
  __device__ void begin_turns() const {
    if (group == 1) ptx::named_arrive(kTurnBarrier, T::kConsumers);
  }
  __device__ void take_turn() const { ptx::named_sync(kTurnBarrier + group, T::kConsumers); }
  __device__ void give_turn() const { ptx::named_arrive(kTurnBarrier + 1 - group, T::kConsumers); }
  __device__ void end_turns() const {
    if (group == 0) ptx::named_sync(kTurnBarrier, T::kConsumers);
  }

 private:
  // This warp is done with a slot, in every block of the cluster that filled it.
  __device__ void release(uint32_t empty) const {
    if constexpr (T::kCluster == 1) {
      if (lane() == 0) ptx::barrier_arrive(empty);
    } else {
      if (lane() < T::kCluster) ptx::barrier_arrive_remote(empty, lane());
    }
  }
};

}  // namespace hunyuan::attention::sm90
