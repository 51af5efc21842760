// common/ptx/mma.cuh for the emulator.
#pragma once

#include "common/ptx/fragment.h"
#include "common/ptx/shared_memory.cuh"

namespace hunyuan::ptx {

struct EmulatedBf16 {
  static constexpr int kBytes = 2;
  static float value(const void* p) { return __bfloat162float(*static_cast<const __nv_bfloat16*>(p)); }
};
struct EmulatedF16 {
  static constexpr int kBytes = 2;
  static float value(const void* p) { return __half2float(*static_cast<const __half*>(p)); }
};
struct EmulatedE4m3 {
  static constexpr int kBytes = 1;
  static float value(const void* p) {
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(*static_cast<const __nv_fp8_storage_t*>(p), __NV_E4M3)));
  }
};

// d += a b for one warp: 16 rows, 8 columns, 32 bytes of K.
template <class Element>
void emulated_mma(float* d, const uint32_t* a, const uint32_t* b) {
  struct Argument {
    float* d;
    const uint32_t *a, *b;
  } mine{d, a, b};
  static const char kind = 0;
  ::emulator::meet(::emulator::warp_meeting(), 32, ::emulator::lane(), &mine, &kind, [](void** all) {
    constexpr int kPerRegister = 4 / Element::kBytes, kDepth = 32 / Element::kBytes;
    float left[16][kDepth], right[8][kDepth];
    for (int lane = 0; lane < 32; ++lane) {
      const auto& from = *static_cast<Argument*>(all[lane]);
      for (int r = 0; r < 4; ++r)
        for (int e = 0; e < kPerRegister; ++e) {
          const char* bytes = reinterpret_cast<const char*>(&from.a[r]) + e * Element::kBytes;
          const int row = Element::kBytes == 2 ? operand16_row(lane, r) : operand8_row(lane, r);
          const int k = Element::kBytes == 2 ? operand16_column(lane, r, e) : operand8_column(lane, r, e);
          left[row][k] = Element::value(bytes);
        }
      for (int r = 0; r < 2; ++r)  // PTX ISA: column lane / 4, rows from lane % 4, half of K by register
        for (int e = 0; e < kPerRegister; ++e)
          right[lane / 4][r * kDepth / 2 + lane % 4 * kPerRegister + e] =
              Element::value(reinterpret_cast<const char*>(&from.b[r]) + e * Element::kBytes);
    }
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const int row = accumulator_row(lane, i), column = accumulator_column(lane, i);
        float sum = 0;
        for (int k = 0; k < kDepth; ++k) sum += left[row][k] * right[column][k];
        static_cast<Argument*>(all[lane])->d[i] += sum;
      }
  });
}

inline void mma_bf16(float* d, const uint32_t* a, const uint32_t* b) { emulated_mma<EmulatedBf16>(d, a, b); }
inline void mma_f16(float* d, const uint32_t* a, const uint32_t* b) { emulated_mma<EmulatedF16>(d, a, b); }
inline void mma_e4m3(float* d, const uint32_t* a, const uint32_t* b) { emulated_mma<EmulatedE4m3>(d, a, b); }

template <bool kTransposed>
void emulated_load_matrices(uint32_t (&r)[4], uint32_t address) {
  if (address % 16) ::emulator::fault("ldmatrix: rows must start at multiples of 16 bytes");
  struct Argument {
    uint32_t* r;
    const char* row;
  } mine{r, ::emulator::shared_pointer(address)};
  static const char kind = 0;
  ::emulator::meet(::emulator::warp_meeting(), 32, ::emulator::lane(), &mine, &kind, [](void** all) {
    for (int lane = 0; lane < 32; ++lane)
      for (int matrix = 0; matrix < 4; ++matrix)
        for (int e = 0; e < 2; ++e) {
          const int row = kTransposed ? lane % 4 * 2 + e : lane / 4, column = kTransposed ? lane / 4 : lane % 4 * 2 + e;
          std::memcpy(reinterpret_cast<char*>(&static_cast<Argument*>(all[lane])->r[matrix]) + 2 * e,
                      static_cast<Argument*>(all[matrix * 8 + row])->row + column * 2, 2);
        }
  });
}
inline void load_matrices(uint32_t (&r)[4], uint32_t address) { emulated_load_matrices<false>(r, address); }
inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) { emulated_load_matrices<true>(r, address); }

// Copies of a thread: those of the group that is being filled, then closed groups, oldest first.
struct EmulatedCopies {
  std::vector<uint64_t> open;
  std::vector<std::vector<uint64_t>> groups;
};

inline void copy16(uint32_t destination, const void* source, bool present) {
  if (destination % 16 || (present && reinterpret_cast<uintptr_t>(source) % 16))
    ::emulator::fault("cp.async: addresses must be multiples of 16 bytes");
  char* to = ::emulator::shared_pointer(destination);
  ::emulator::per_thread<EmulatedCopies>().open.push_back(::emulator::defer(::emulator::Work::kCopy, [=] {
    if (present) std::memcpy(to, source, 16);
    else std::memset(to, 0, 16);
  }));
}
inline void copies_commit() {
  auto& copies = ::emulator::per_thread<EmulatedCopies>();
  copies.groups.push_back(std::move(copies.open));
  copies.open.clear();
}
template <int kPending>
void copies_wait_group() {
  auto& groups = ::emulator::per_thread<EmulatedCopies>().groups;
  if (groups.size() > kPending) ::emulator::pause();
  while (groups.size() > kPending) {
    for (uint64_t ticket : groups.front()) ::emulator::finish(ticket);
    groups.erase(groups.begin());
  }
}
inline void copies_wait() {
  copies_commit();
  copies_wait_group<0>();
}

}  // namespace hunyuan::ptx
