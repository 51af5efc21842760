// One tile of a matrix product on mma.sync (Ampere and later): 128 rows x kColumns, 128 bytes of K a step, operands
// copied asynchronously into a ring of swizzled panels. 16-bit and 8-bit operands differ in one instruction: a fragment
// is the same bytes.
#pragma once

#include <stdint.h>

#include "common/matmul/fragment.cuh"
#include "common/ptx/mma.cuh"
#include "common/ptx/shared_layout.h"
#include "common/ptx/shared_memory.cuh"

namespace hunyuan::matmul {

struct Bf16 {
  using Type = __nv_bfloat16;
  __device__ static void multiply(float* d, const uint32_t* a, const uint32_t* b) { ptx::mma_bf16(d, a, b); }
};
struct F16 {
  using Type = __half;
  __device__ static void multiply(float* d, const uint32_t* a, const uint32_t* b) { ptx::mma_f16(d, a, b); }
};
struct E4m3 {
  using Type = uint8_t;
  __device__ static void multiply(float* d, const uint32_t* a, const uint32_t* b) { ptx::mma_e4m3(d, a, b); }
};

template <class Operand_, int kColumns_>
struct MmaTile {
  using Operand = Operand_;
  static constexpr int kRows = 128, kColumns = kColumns_, kThreads = 256, kWarps = kThreads / 32;
  static constexpr int kStages = 3;  // 96 KB at 128 columns: what a block of sm_89 may have
  static constexpr int kWarpsAcross = kColumns / kFragmentColumns, kWarpsDown = kWarps / kWarpsAcross;
  static constexpr int kRowFragments = kRows / kWarpsDown / kFragmentRows, kStrips = 1;
  static constexpr int kBytesA = kRows * ptx::kPanelBytes, kBytesB = kColumns * ptx::kPanelBytes;
  static constexpr int kStageBytes = kBytesA + kBytesB;
  static constexpr int kSharedBytes = kStages * kStageBytes + ptx::kPanelBytes;  // room to align
  static_assert(kWarpsAcross * kWarpsDown == kWarps && kRowFragments >= 1, "warps must tile the tile");
  static_assert(kSharedBytes <= 100 * 1024, "sm_89 has 100 KB of shared memory a multiprocessor");

  using Accumulators = float[kRowFragments][kStrips * kFragmentFloats];

  // Which 16-byte chunks a thread copies: chunk kChunk of rows copy_row(0), copy_row(1), ... of A and of B.
  static constexpr int kCopiesA = kBytesA / 16 / kThreads, kCopiesB = kBytesB / 16 / kThreads;
  __device__ static int copy_chunk() { return threadIdx.x % 8; }
  __device__ static int copy_row(int i) { return threadIdx.x / 8 + i * (kThreads / 8); }

  // First row and column, in the tile, of this warp's fragments.
  __device__ static int warp_down() { return threadIdx.x / 32 / kWarpsAcross; }
  __device__ static int warp_across() { return threadIdx.x / 32 % kWarpsAcross; }
  __device__ static int row(int m) { return (warp_down() * kRowFragments + m) * kFragmentRows; }
  __device__ static int column(int strip) { return (warp_across() * kStrips + strip) * kFragmentColumns; }
  __device__ static int thread() { return threadIdx.x; }
  __device__ static void synchronize() { __syncthreads(); }

  // Copies one K step, zeros where the source has nothing. Source: next_a(i) and next_b(i) give the address of chunk i
  // of the coming step or null; advance() goes on to the next step.
  template <class Source>
  __device__ static void fetch(Source& source, const void* anywhere, uint32_t stage) {
    const uint32_t chunk = copy_chunk() * 16;
#pragma unroll
    for (int i = 0; i < kCopiesA; ++i) {
      const void* from = source.next_a(i);
      ptx::copy16(stage + ptx::swizzled_offset(copy_row(i), chunk), from ? from : anywhere, from != nullptr);
    }
#pragma unroll
    for (int i = 0; i < kCopiesB; ++i) {
      const void* from = source.next_b(i);
      ptx::copy16(stage + kBytesA + ptx::swizzled_offset(copy_row(i), chunk), from ? from : anywhere, from != nullptr);
    }
    source.advance();
  }

  // acc += A B of one K step in shared memory.
  __device__ static void multiply(uint32_t stage, Accumulators& acc) {
    const int lane = threadIdx.x % 32;
    constexpr int kStepBytes = 32;  // of K, one mma instruction
#pragma unroll
    for (int k = 0; k < ptx::kPanelBytes; k += kStepBytes) {
      uint32_t b[2][4];  // two pairs of 8-column chunks: {first, second half of K} of each chunk
#pragma unroll
      for (int pair = 0; pair < 2; ++pair)
        ptx::load_matrices(
            b[pair], stage + kBytesA +
                         ptx::swizzled_offset(column(0) + pair * 16 + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 16));
#pragma unroll
      for (int m = 0; m < kRowFragments; ++m) {
        uint32_t a[4];
        ptx::load_matrices(a, stage + ptx::swizzled_offset(row(m) + lane % 16, k + lane / 16 * 16));
#pragma unroll
        for (int chunk = 0; chunk < 4; ++chunk) Operand::multiply(&acc[m][chunk * 4], a, &b[chunk / 2][chunk % 2 * 2]);
      }
    }
  }

  // acc = A B over `steps` K steps. `promote`(acc, step_acc, step) adds the product of one step to the accumulators;
  // for NoPromotion the tensor cores do. On return all threads are past their last use of shared memory.
  template <class Source, class Promote>
  __device__ static void run(Source& source, const void* anywhere, int steps, uint32_t shared, Accumulators& acc,
                             const Promote& promote) {
#pragma unroll
    for (int m = 0; m < kRowFragments; ++m)
#pragma unroll
      for (int i = 0; i < kStrips * kFragmentFloats; ++i) acc[m][i] = 0.0f;
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
      if (stage < steps) fetch(source, anywhere, shared + stage * kStageBytes);
      ptx::copies_commit();
    }
    int stage = 0, free_stage = kStages - 1;
    for (int step = 0; step < steps; ++step) {
      ptx::copies_wait_group<kStages - 2>();
      __syncthreads();  // this step has landed for all, and all have left the stage that is refilled next
      if (step + kStages - 1 < steps) fetch(source, anywhere, shared + free_stage * kStageBytes);
      ptx::copies_commit();
      if constexpr (Promote::kNone) {
        multiply(shared + stage * kStageBytes, acc);
      } else {
        Accumulators part;
#pragma unroll
        for (int m = 0; m < kRowFragments; ++m)
#pragma unroll
          for (int i = 0; i < kStrips * kFragmentFloats; ++i) part[m][i] = 0.0f;
        multiply(shared + stage * kStageBytes, part);
        promote(acc, part, step);
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
      free_stage = free_stage + 1 == kStages ? 0 : free_stage + 1;
    }
    ptx::copies_wait_group<0>();
    __syncthreads();
  }
};

struct NoPromotion {
  static constexpr bool kNone = true;
};

}  // namespace hunyuan::matmul
