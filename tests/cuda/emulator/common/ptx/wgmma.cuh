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

// How an operand lies in shared memory: K along its panels, or the other dimension.
enum class Layout { kMajor, nMajor };

// Element `k` of row (of A) or column (of B) `n` of a 128-byte swizzled operand, as the hardware reads it: the address
// from the descriptor, then the swizzle on the bits of that address.
template <class Element, Layout kLayout>
float emulated_operand(const ::emulator::Block& block, uint64_t descriptor, int n, int k) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const uint32_t leading = static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4;
  const uint32_t stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  constexpr int kWidth = kPanelBytes / Element::kBytes;
  const uint32_t address =
      kLayout == Layout::kMajor
          ? start + n / kAtomRows * stride + n % kAtomRows * kPanelBytes + k * Element::kBytes
          : start + n / kWidth * leading + k / kAtomRows * stride + k % kAtomRows * kPanelBytes + n % kWidth * Element::kBytes;
  const uint32_t swizzled = address ^ ((address >> 7 & 7) << 4);
  if (swizzled >= block.shared_bytes) return std::nanf("");
  return Element::value(block.shared + swizzled);
}

// Element (row, k) of an A operand in the registers of a warpgroup, read when the product is done, as the hardware may.
template <class Element>
float emulated_register(const std::vector<const uint32_t*>& registers, int row, int k) {
  constexpr int kPer = 4 / Element::kBytes, kHalf = 4 * kPer;  // elements of a register; columns of half an operand
  const int lane = row % 8 * 4 + k % kHalf / kPer, r = row % 16 / 8 + k / kHalf * 2;
  const uint32_t* from = registers[row / 16 * 32 + lane];
  return Element::value(reinterpret_cast<const char*>(from + r) + k % kPer * Element::kBytes);
}

// A is a descriptor, or registers where `a` is not null.
template <class Element, Layout kLayout, int kCount>
void emulated_wgmma(float (&d)[kCount], const uint32_t* a_registers, uint64_t a, uint64_t b, int accumulate) {
  struct Argument {
    float* d;
    const uint32_t* registers;
    uint64_t a, b;
    int accumulate;
    uint64_t ticket;
  } mine{d, a_registers, a, b, accumulate, 0};
  static const char kind = 0;
  auto& products = ::emulator::per_thread<EmulatedProducts>();
  ::emulator::Block& block = *::emulator::thread().block;
  const auto issue = [&block, before = products.last](void** all) {
    const Argument first = *static_cast<Argument*>(all[0]);
    if ((!first.registers && first.a >> 62 != 1) || first.b >> 62 != 1)
      ::emulator::fault("wgmma: only 128-byte swizzled operands are modelled");
    std::vector<float*> outputs;
    std::vector<const uint32_t*> registers;
    for (int i = 0; i < 128; ++i) {
      const auto& one = *static_cast<Argument*>(all[i]);
      if (one.a != first.a || one.b != first.b || one.accumulate != first.accumulate)
        ::emulator::fault("wgmma: the threads of a warpgroup differ in descriptor or flag");
      outputs.push_back(one.d);
      registers.push_back(one.registers);
    }
    const uint64_t ticket = ::emulator::defer(::emulator::Work::kProduct, [=, &block] {
      ::emulator::finish(before);
      constexpr int kDepth = 32 / Element::kBytes, kColumns = 2 * kCount;
      std::vector<float> left(64 * kDepth), right(kColumns * kDepth);
      for (int row = 0; row < 64; ++row)
        for (int k = 0; k < kDepth; ++k)
          left[row * kDepth + k] = first.registers
                                       ? emulated_register<Element>(registers, row, k)
                                       : emulated_operand<Element, Layout::kMajor>(block, first.a, row, k);
      for (int n = 0; n < kColumns; ++n)
        for (int k = 0; k < kDepth; ++k)
          right[n * kDepth + k] = emulated_operand<Element, kLayout>(block, first.b, n, k);
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
  emulated_wgmma<EmulatedBf16, Layout::kMajor>(d, nullptr, a, b, accumulate);
}
template <int kCount>
void wgmma_bf16(float (&d)[kCount], const uint32_t* a, uint64_t b, int accumulate) {
  emulated_wgmma<EmulatedBf16, Layout::nMajor>(d, a, 0, b, accumulate);
}
template <int kCount>
void wgmma_f16(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  emulated_wgmma<EmulatedF16, Layout::kMajor>(d, nullptr, a, b, accumulate);
}
template <int kCount>
void wgmma_e4m3(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  emulated_wgmma<EmulatedE4m3, Layout::kMajor>(d, nullptr, a, b, accumulate);
}
template <int kCount>
void wgmma_e4m3(float (&d)[kCount], const uint32_t* a, uint64_t b, int accumulate) {
  emulated_wgmma<EmulatedE4m3, Layout::kMajor>(d, a, 0, b, accumulate);
}

}  // namespace hunyuan::ptx
