// Bulk tensor copies, global to shared memory (TMA): one thread starts them, an mbarrier counts the bytes.
#pragma once

#include <cuda.h>
#include <stdint.h>

#include "common/ptx/sync.cuh"

namespace hunyuan::ptx {

// L2 eviction policies for copies: data read once, data that neighboring blocks read, data that
// every block of the grid reads.
__device__ inline uint64_t evict_first() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline uint64_t evict_normal() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline uint64_t evict_last() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Brings the line of 128 bytes that holds `address` to L2.
__device__ inline void prefetch_l2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address) : "memory");
}

// Copies the box at (c0, c1, c2, c3), innermost first, to `destination`; outside the tensor it is filled with zeros,
// and all bytes of the box count for the barrier.
__device__ inline void copy_box(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0, int c1, int c2,
                                int c3, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "l"(policy)
      : "memory");
}

// The same into the blocks of the cluster whose bits are set in `blocks`: at the same place in each, counted by the
// barrier at the same place in each.
__device__ inline void copy_box_multicast(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0,
                                          int c1, int c2, int c3, uint16_t blocks, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6}], [%2], %7, %8;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "h"(blocks), "l"(policy)
      : "memory");
}

// The same for tensors of five dimensions.
__device__ inline void copy_box(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0, int c1, int c2,
                                int c3, int c4, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "l"(policy)
      : "memory");
}
__device__ inline void copy_box_multicast(const CUtensorMap* map, uint32_t destination, uint32_t barrier, int c0,
                                          int c1, int c2, int c3, int c4, uint16_t blocks, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8, %9;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4), "h"(blocks), "l"(policy)
      : "memory");
}

}  // namespace hunyuan::ptx
