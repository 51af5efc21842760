// common/ptx/wgmma.cuh for the emulator. Issued products are done at a random moment before the wait that covers them:
// they read shared memory and write their accumulators only then.
#pragma once

#include "common/ptx/fragment.h"
#include "common/ptx/mma.cuh"
#include "common/ptx/shared_layout.h"

namespace hunyuan::ptx {

// Products that a thread has issued: those since the last commit, then closed groups, oldest first.
struct EmulatedProducts {
  std::vector<uint64_t> open;
  std::vector<std::vector<uint64_t>> groups;
  uint64_t last = 0;  // they run in order
};

inline void wgmma_fence() {}
inline void wgmma_commit() {
  auto& products = ::emulator::per_thread<EmulatedProducts>();
  products.groups.push_back(std::move(products.open));
  products.open.clear();
}
template <int kPending>
void wgmma_wait() {
  auto& groups = ::emulator::per_thread<EmulatedProducts>().groups;
  if (groups.size() > kPending) ::emulator::pause();
  while (groups.size() > kPending) {
    for (uint64_t ticket : groups.front()) ::emulator::finish(ticket);
    groups.erase(groups.begin());
  }
}

// Element `k` of row `row` of a 128-byte swizzled operand with K along its panels, as the hardware reads it: the row's
// address from the descriptor, then the swizzle on the bits of that address.
template <class Element>
float emulated_operand(const ::emulator::Block& block, uint64_t descriptor, int row, int k) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const uint32_t stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  const uint32_t address = start + row / kAtomRows * stride + row % kAtomRows * kPanelBytes + k * Element::kBytes;
  const uint32_t swizzled = address ^ ((address >> 7 & 7) << 4);
  if (swizzled >= block.shared_bytes) return std::nanf("");
  return Element::value(block.shared + swizzled);
}

template <class Element, int kCount>
void emulated_wgmma(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  struct Argument {
    float* d;
    uint64_t a, b;
    int accumulate;
    uint64_t ticket;
  } mine{d, a, b, accumulate, 0};
  static const char kind = 0;
  auto& products = ::emulator::per_thread<EmulatedProducts>();
  ::emulator::Block& block = *::emulator::thread().block;
  const auto issue = [&block, before = products.last](void** all) {
    const Argument first = *static_cast<Argument*>(all[0]);
    if (first.a >> 62 != 1 || first.b >> 62 != 1) ::emulator::fault("wgmma: only 128-byte swizzled operands are modelled");
    std::vector<float*> outputs;
    for (int i = 0; i < 128; ++i) {
      const auto& one = *static_cast<Argument*>(all[i]);
      if (one.a != first.a || one.b != first.b || one.accumulate != first.accumulate)
        ::emulator::fault("wgmma: the threads of a warpgroup differ in descriptor or flag");
      outputs.push_back(one.d);
    }
    const uint64_t ticket = ::emulator::defer(::emulator::Work::kProduct, [=, &block] {
      ::emulator::finish(before);
      constexpr int kDepth = 32 / Element::kBytes, kColumns = 2 * kCount;
      std::vector<float> left(64 * kDepth), right(kColumns * kDepth);
      for (int row = 0; row < 64; ++row)
        for (int k = 0; k < kDepth; ++k) left[row * kDepth + k] = emulated_operand<Element>(block, first.a, row, k);
      for (int row = 0; row < kColumns; ++row)
        for (int k = 0; k < kDepth; ++k) right[row * kDepth + k] = emulated_operand<Element>(block, first.b, row, k);
      for (int thread = 0; thread < 128; ++thread)
        for (int i = 0; i < kCount; ++i) {
          const float* x = &left[(thread / 32 * 16 + accumulator_row(thread % 32, i)) * kDepth];
          const float* y = &right[accumulator_column(thread % 32, i) * kDepth];
          float sum = 0;
          for (int k = 0; k < kDepth; ++k) sum += x[k] * y[k];
          outputs[thread][i] = first.accumulate ? outputs[thread][i] + sum : sum;
        }
    });
    for (int i = 0; i < 128; ++i) static_cast<Argument*>(all[i])->ticket = ticket;
  };
  ::emulator::meet(::emulator::warpgroup_meeting(), 128, ::emulator::thread().index.x % 128, &mine, &kind, issue);
  products.open.push_back(mine.ticket);
  products.last = mine.ticket;
}

template <int kCount>
void wgmma_bf16(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  emulated_wgmma<EmulatedBf16>(d, a, b, accumulate);
}
template <int kCount>
void wgmma_f16(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  emulated_wgmma<EmulatedF16>(d, a, b, accumulate);
}
template <int kCount>
void wgmma_e4m3(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  emulated_wgmma<EmulatedE4m3>(d, a, b, accumulate);
}

}  // namespace hunyuan::ptx
