// Statistics of a GroupNorm in pieces: count, mean and sum of squared distances from the mean, merged in a fixed order
// (Chan, Golub, LeVeque 1979), so the result has the digits of a two-pass computation and does not depend on timing.
// Host-callable; tests/cpp/test_moments.cpp checks the plan and the merge.
#pragma once

#include <stdint.h>

#include "common/host/host_device.h"

namespace hunyuan {

template <class Real>
struct MomentsOf {
  Real count, mean, squares;

  template <class Other>
  HUNYUAN_HOST_DEVICE void add(const Other& part) {
    if (part.count == 0) return;
    const Real total = count + part.count, share = part.count / total, delta = part.mean - mean;
    mean += delta * share;
    squares += part.squares + delta * delta * count * share;
    count = total;
  }
};
using Moments = MomentsOf<float>;  // as kernels exchange them: [batch, chunks, groups]

// How the positions of a sample are cut into chunks, one thread block each. Depends on the shape only, not on the
// device, so that results repeat everywhere.
struct ChunkPlan {
  int64_t positions, positions_per_chunk, chunks;
};

HUNYUAN_HOST_DEVICE constexpr ChunkPlan chunk_plan(int64_t positions, int64_t channels) {
  constexpr int64_t kLeastElements =
      65536;                             // 128 KB of bf16: several microseconds of one block's share of the bandwidth
  constexpr int64_t kMostChunks = 4096;  // a few waves of blocks on any device
  const int64_t per_chunk = (positions + kMostChunks - 1) / kMostChunks;
  const int64_t least = (kLeastElements + channels - 1) / channels;
  const int64_t size = per_chunk > least ? per_chunk : least;
  return {positions, size, (positions + size - 1) / size};
}

}  // namespace hunyuan
