// Persistent matrix products on Hopper: one producer warp keeps a ring of operand tiles full by TMA, two consumer
// warpgroups multiply them with wgmma. A block computes 256 x 128 tiles: 128 x 128 accumulators a warpgroup fill half
// of its registers, and 48 KB a step are the fewest bytes from L2 for that many. Blocks of a cluster of two share the A
// or the B tile by multicast, which takes a third (A) or a sixth (B) off that.
//
// A Problem says what is multiplied:
//   Tile      this WgmmaTile
//   Params    tensor maps and sizes, with members `order` (PairOrder) and `steps`
//   Source    (params, tile, ...): fetch_a(part, ...), fetch_b(part, ...) start the copy of half an operand tile of the
//             current K step into shared memory, advance() goes on to the next step
//   promotion(params, tile)  the scales of two-level accumulation (Tile::kPromote only): weight_at(step) and
//             x_at(step, row in the tile)
//   Finish    (params, tile), made by all consumer threads before the first product of a tile: load() starts what the
//             end needs while the last products run, run(acc, scratch) consumes the accumulators
#pragma once

#include <stdint.h>

#include "common/cuda/launch.cuh"
#include "common/matmul/fragment.cuh"
#include "common/matmul/tile_order.h"
#include "common/ptx/registers.cuh"
#include "common/ptx/shared_layout.h"
#include "common/ptx/tma.cuh"
#include "common/ptx/wgmma.cuh"

namespace hunyuan::matmul {

struct WideBf16 {
  using Type = __nv_bfloat16;
  static constexpr CUtensorMapDataType kMapType = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  __device__ static void multiply(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
    ptx::wgmma_bf16(d, a, b, accumulate);
  }
};
struct WideF16 {
  using Type = __half;
  static constexpr CUtensorMapDataType kMapType = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  __device__ static void multiply(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
    ptx::wgmma_f16(d, a, b, accumulate);
  }
};
struct WideE4m3 {
  using Type = uint8_t;
  static constexpr CUtensorMapDataType kMapType = CU_TENSOR_MAP_DATA_TYPE_UINT8;
  __device__ static void multiply(float (&d)[64], uint64_t a, uint64_t b, int accumulate) {
    ptx::wgmma_e4m3(d, a, b, accumulate);
  }
};

template <class Operand_, bool kPromote_>
struct WgmmaTile {
  using Operand = Operand_;
  static constexpr bool kPromote = kPromote_;
  static constexpr int kRows = 256, kColumns = 128, kStages = 4;
  static constexpr int kWarpgroup = 128, kGroups = 2;
  static constexpr int kThreads = kGroups * kWarpgroup;        // that hold accumulators
  static constexpr int kBlockThreads = kThreads + kWarpgroup;  // and the producer
  static constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;
  static_assert(kProducerRegisters * kWarpgroup + kConsumerRegisters * kThreads <= 65536, "the register file");

  static constexpr int kGroupRows = kRows / kGroups;  // of a warpgroup: two wgmmas of 64
  static constexpr int kWgmmaRows = 64, kRowFragments = kGroupRows / kWgmmaRows, kStrips = kColumns / kFragmentColumns;
  static constexpr int kWarpsDown = kThreads / 32, kWarpsAcross = 1;
  using Accumulators = float[kRowFragments][kStrips * kFragmentFloats];

  static constexpr int kBytesA = kRows * ptx::kPanelBytes, kBytesB = kColumns * ptx::kPanelBytes;
  static constexpr int kPartA = kBytesA / 2, kPartB = kBytesB / 2;  // what one copy fetches
  static constexpr int kStageBytes = kBytesA + kBytesB;
  static constexpr int kScratchFloats = kWarpsDown * kColumns + 2 * kColumns;
  static constexpr int kSharedBytes = ptx::kAtomBytes + kStages * kStageBytes + 2 * kStages * 8 + kScratchFloats * 4;
  static_assert(kSharedBytes <= 232448, "a Hopper block has 227 KB of shared memory");
  static_assert(kPartA % ptx::kAtomBytes == 0 && kPartB % ptx::kAtomBytes == 0, "parts must be whole swizzle atoms");

  // Consumer threads: who they are, and the first row and column, in the tile, of their fragments.
  __device__ static int thread() { return static_cast<int>(threadIdx.x) - kWarpgroup; }
  __device__ static int warp_down() { return thread() / 32; }
  __device__ static int warp_across() { return 0; }
  __device__ static int row(int m) {
    return thread() / kWarpgroup * kGroupRows + m * kWgmmaRows + thread() / 32 % 4 * kFragmentRows;
  }
  __device__ static int column(int strip) { return strip * kFragmentColumns; }
  __device__ static void synchronize() { ptx::named_sync(1, kThreads); }
};

// Shared memory of a block, by address: operand stages, then "full" and "empty" barriers, then scratch.
template <class Tile>
struct WgmmaShared {
  uint32_t base;

  __device__ explicit WgmmaShared(const void* memory) : base(ptx::aligned_address(memory, ptx::kAtomBytes)) {}
  __device__ uint32_t a(int stage) const { return base + stage * Tile::kStageBytes; }
  __device__ uint32_t b(int stage) const { return a(stage) + Tile::kBytesA; }
  __device__ uint32_t full(int stage) const { return base + Tile::kStages * Tile::kStageBytes + stage * 8; }
  __device__ uint32_t empty(int stage) const { return full(Tile::kStages + stage); }
  __device__ float* scratch(char* memory) const {
    return reinterpret_cast<float*>(memory + (empty(Tile::kStages) - ptx::shared_address(memory)));
  }
  // One thread, before any use. A stage is empty when every consumer warp of the cluster has left it.
  __device__ void init(int cluster) const {
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::barrier_init(full(i), 1);
      ptx::barrier_init(empty(i), Tile::kWarpsDown * cluster);
    }
    ptx::barrier_init_fence();
  }
};

// For a Problem with finish(params, tile, acc, scratch), which loads what it needs when it needs it.
template <class Problem, class Params>
struct PlainFinish {
  const Params& params;
  const TileIndex& tile;
  __device__ void load() const {}
  template <class Accumulators>
  __device__ void run(Accumulators& acc, float* scratch) const {
    Problem::finish(params, tile, acc, scratch);
  }
};

template <class Problem>
__device__ void produce(const typename Problem::Params& params, const WgmmaShared<typename Problem::Tile>& shared,
                        int rank, int64_t first, int64_t stride) {
  using Tile = typename Problem::Tile;
  constexpr uint16_t kBoth = 3;
  const Sharing sharing = params.order.sharing;
  ptx::Ring<Tile::kStages> slot;
  for (int64_t index = first; index < params.order.pairs.count(); index += stride) {
    typename Problem::Source source(params, params.order.tile(index, rank));
    for (int step = 0; step < params.steps; ++step) {
      ptx::barrier_wait(shared.empty(slot.stage), slot.parity ^ 1);
      if (ptx::elect_one()) {
        const uint32_t a = shared.a(slot.stage), b = shared.b(slot.stage), full = shared.full(slot.stage);
        ptx::barrier_arrive_expect(full, Tile::kStageBytes);
        for (int part = 0; part < 2; ++part) {
          // Of a shared operand each block fetches one part, for both.
          const bool mine = part == rank;
          if (sharing != Sharing::kA || mine)
            source.fetch_a(part, a + part * Tile::kPartA, full, sharing == Sharing::kA ? kBoth : 0);
          if (sharing != Sharing::kB || mine)
            source.fetch_b(part, b + part * Tile::kPartB, full, sharing == Sharing::kB ? kBoth : 0);
        }
      }
      source.advance();
      slot.advance();
    }
  }
}

template <class Problem>
struct Consumer {
  using Tile = typename Problem::Tile;
  using Accumulators = typename Tile::Accumulators;
  const typename Problem::Params& params;
  const WgmmaShared<Tile>& shared;
  const int cluster;
  ptx::Ring<Tile::kStages> slot{};

  __device__ void run(char* memory, int rank, int64_t first, int64_t stride) {
    for (int64_t index = first; index < params.order.pairs.count(); index += stride) {
      const TileIndex tile = params.order.tile(index, rank);
      typename Problem::Finish finish{params, tile};
      Accumulators acc;
      if constexpr (Tile::kPromote)
        multiply_promoted(acc, Problem::promotion(params, tile), finish);
      else
        multiply(acc, finish);
      finish.run(acc, shared.scratch(memory));
    }
  }

 private:
  static constexpr int kSteps = ptx::kPanelBytes / 32;  // wgmmas along K of one panel

  __device__ uint64_t descriptor_a(int m) const {
    const int row = Tile::thread() / Tile::kWarpgroup * Tile::kGroupRows + m * Tile::kWgmmaRows;
    return ptx::matrix_descriptor(shared.a(slot.stage) + row * ptx::kPanelBytes, 16);
  }
  __device__ uint64_t descriptor_b() const { return ptx::matrix_descriptor(shared.b(slot.stage), 16); }

  // This warp has left a stage, in every block of the cluster whose copies fill it.
  __device__ void release(int stage) const {
    const int lane = threadIdx.x % 32;
    if (cluster == 1) {
      if (lane == 0) ptx::barrier_arrive(shared.empty(stage));
    } else if (lane < cluster) {
      ptx::barrier_arrive_remote(shared.empty(stage), lane);
    }
  }

  // Sums stay in the tensor cores; a stage is released one step late, when its products are surely done.
  template <class Finish>
  __device__ void multiply(Accumulators& acc, Finish& finish) {
    int previous = 0;
    for (int step = 0; step < params.steps; ++step) {
      ptx::barrier_wait(shared.full(slot.stage), slot.parity);
      ptx::wgmma_fence();
      const uint64_t b = descriptor_b();
#pragma unroll
      for (int k = 0; k < kSteps; ++k)
#pragma unroll
        for (int m = 0; m < Tile::kRowFragments; ++m)
          Tile::Operand::multiply(acc[m], ptx::advance_descriptor(descriptor_a(m), k * 32),
                                  ptx::advance_descriptor(b, k * 32), step + k > 0);
      ptx::wgmma_commit();
      if (step > 0) {
        ptx::wgmma_wait<1>();
        release(previous);
      }
      previous = slot.stage;
      slot.advance();
    }
    finish.load();
    ptx::wgmma_wait<0>();
#pragma unroll
    for (int m = 0; m < Tile::kRowFragments; ++m) ptx::pin(acc[m]);
    release(previous);
  }

  // Products of one step, then float32 sums of them; the other warpgroup has the tensor cores meanwhile. They do so
  // unasked: taking turns by barriers, half a step each, was 7 % slower (docs/kernels/fp8_linear.md).
  template <class Promotion, class Finish>
  __device__ void multiply_promoted(Accumulators& acc, const Promotion& promotion, Finish& finish) {
#pragma unroll
    for (int m = 0; m < Tile::kRowFragments; ++m)
#pragma unroll
      for (int i = 0; i < Tile::kStrips * kFragmentFloats; ++i) acc[m][i] = 0.0f;
    // The scales of a step are loaded a step ahead and multiplied in it: nothing waits for memory between its products
    // and their sum.
    float scale[Tile::kRowFragments][2], next[Tile::kRowFragments][2], next_weight;
    const auto load = [&](int step) {
      next_weight = promotion.weight_at(step);
#pragma unroll
      for (int m = 0; m < Tile::kRowFragments; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) next[m][half] = promotion.x_at(step, Tile::row(m) + lane_row() + half * 8);
    };
    load(0);
    for (int step = 0; step < params.steps; ++step) {
#pragma unroll
      for (int i = 0; i < 2 * Tile::kRowFragments; ++i) scale[i / 2][i % 2] = next[i / 2][i % 2] * next_weight;
      if (step + 1 < params.steps)
        load(step + 1);
      else
        finish.load();
      ptx::barrier_wait(shared.full(slot.stage), slot.parity);
      const uint64_t b = descriptor_b();
#pragma unroll
      for (int m = 0; m < Tile::kRowFragments; ++m) {
        float part[Tile::kStrips * kFragmentFloats];
        ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < kSteps; ++k)
          Tile::Operand::multiply(part, ptx::advance_descriptor(descriptor_a(m), k * 32),
                                  ptx::advance_descriptor(b, k * 32), k > 0);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        ptx::pin(part);
        if (m == Tile::kRowFragments - 1) release(slot.stage);
#pragma unroll
        for (int i = 0; i < Tile::kStrips * kFragmentFloats; ++i)
          acc[m][i] = fmaf(part[i], scale[m][i / 2 % 2], acc[m][i]);
      }
      slot.advance();
    }
  }
};

template <class Problem>
__global__ void __launch_bounds__(Problem::Tile::kBlockThreads, 1)
    wgmma_kernel(const __grid_constant__ typename Problem::Params params) {
  using Tile = typename Problem::Tile;
  char* memory = device::dynamic_shared();
  const WgmmaShared<Tile> shared(memory);
  const int cluster = params.order.sharing == Sharing::kNone ? 1 : 2;
  const int rank = cluster == 1 ? 0 : static_cast<int>(ptx::cluster_rank());
  const int64_t first = blockIdx.x / cluster, stride = gridDim.x / cluster;
  if (threadIdx.x == 0) {
    shared.init(cluster);
    ptx::prefetch_tensor_map(&params.a);
    ptx::prefetch_tensor_map(&params.b);
  }
  if (cluster == 1)
    __syncthreads();
  else
    ptx::cluster_sync();

  if (threadIdx.x < Tile::kWarpgroup) {
    ptx::registers_at_most<Tile::kProducerRegisters>();
    if (__shfl_sync(0xffffffffu, threadIdx.x / 32, 0) == 0) produce<Problem>(params, shared, rank, first, stride);
  } else {
    ptx::registers_at_least<Tile::kConsumerRegisters>();
    Consumer<Problem>{params, shared, cluster}.run(memory, rank, first, stride);
  }
  // No block leaves while the other may still copy into its shared memory or arrive at its barriers.
  if (cluster > 1) ptx::cluster_sync();
}

// One cluster (or block) for each pair of tiles, at most as many as run at once.
template <class Problem>
int launch_wgmma(const char* op, const typename Problem::Params& params, hunyuan_target target) {
  using Tile = typename Problem::Tile;
  const unsigned cluster = params.order.sharing == Sharing::kNone ? 1 : 2;
  LaunchShape shape{0, Tile::kBlockThreads, Tile::kSharedBytes, cluster};
  int resident = 0;
  if (const int status = resident_blocks(op, shape, target.device, wgmma_kernel<Problem>, &resident)) return status;
  const int64_t wanted = params.order.pairs.count() * cluster;
  shape.blocks = wanted < resident ? wanted : resident;
  return launch(op, shape, static_cast<cudaStream_t>(target.stream), wgmma_kernel<Problem>, params);
}

}  // namespace hunyuan::matmul
