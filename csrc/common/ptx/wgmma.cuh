// wgmma: D += A B by a warpgroup of four warps, D in registers, B in shared memory, A in shared memory (ss) or
// registers (rs). Asynchronous: fence, issue, commit, wait; until the wait nothing may touch D or the registers of A.
// The register lists are long but regular; adding a tile width N means one more HUNYUAN_WGMMA_OUT_<N / 2> list.
#pragma once

#include <stdint.h>

#include "common/ptx/registers.cuh"

namespace hunyuan::ptx {

// Before the first wgmma after ordinary code wrote its registers.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of issued wgmmas.
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most `kPending` of the latest groups are unfinished.
template <int kPending>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// clang-format off
#define HUNYUAN_WGMMA_REGISTERS_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define HUNYUAN_WGMMA_OUT_32 \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
  "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
  "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
  "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define HUNYUAN_WGMMA_REGISTERS_64 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HUNYUAN_WGMMA_OUT_64 \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
  "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
  "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
  "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
  "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
  "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
  "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
  "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define HUNYUAN_WGMMA_REGISTERS_88 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, " \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87"
#define HUNYUAN_WGMMA_OUT_88 \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
  "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), \
  "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), \
  "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
  "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), \
  "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), \
  "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
  "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), \
  "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), \
  "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), \
  "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])

// SHAPE_AND_TYPES: "m64n128k16.f32.bf16.bf16"; the operands that follow the accumulators are numbered by the caller.
// 16-bit types end with the transpose flags (", 0, 1": B has N along its panels), 8-bit types have none.
#define HUNYUAN_WGMMA_SS(COUNT, SHAPE_AND_TYPES, A, B, P, TRANSPOSE)                                         \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " P ", 0;\nwgmma.mma_async.sync.aligned." SHAPE_AND_TYPES " {" \
               HUNYUAN_WGMMA_REGISTERS_##COUNT "}, " A ", " B ", p, 1, 1" TRANSPOSE ";\n}"                    \
               : HUNYUAN_WGMMA_OUT_##COUNT : "l"(a), "l"(b), "r"(accumulate))
#define HUNYUAN_WGMMA_RS(COUNT, SHAPE_AND_TYPES, A0, A1, A2, A3, B, P, TRANSPOSE)                            \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " P ", 0;\nwgmma.mma_async.sync.aligned." SHAPE_AND_TYPES " {" \
               HUNYUAN_WGMMA_REGISTERS_##COUNT "}, {" A0 ", " A1 ", " A2 ", " A3 "}, " B ", p, 1, 1" TRANSPOSE ";\n}" \
               : HUNYUAN_WGMMA_OUT_##COUNT : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
// clang-format on

// D [64, 2 kCount] (+)= A [64, 16] B [16, 2 kCount], bf16; A and B are descriptors of tiles with K along their panels.
template <int kCount>
__device__ void wgmma_bf16(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  static_assert(kCount == 64 || kCount == 88, "no bf16 wgmma list of this width with both operands in shared memory");
  if constexpr (kCount == 64) HUNYUAN_WGMMA_SS(64, "m64n128k16.f32.bf16.bf16", "%64", "%65", "%66", ", 0, 0");
  if constexpr (kCount == 88) HUNYUAN_WGMMA_SS(88, "m64n176k16.f32.bf16.bf16", "%88", "%89", "%90", ", 0, 0");
}

// D [64, 2 kCount] (+)= A [64, 16] B [16, 2 kCount], bf16; A in registers, B a tile with N along its panels.
template <int kCount>
__device__ void wgmma_bf16(float (&d)[kCount], const uint32_t* a, uint64_t b, int accumulate) {
  static_assert(kCount == 32 || kCount == 64, "no bf16 wgmma list of this width with A in registers");
  if constexpr (kCount == 32)
    HUNYUAN_WGMMA_RS(32, "m64n64k16.f32.bf16.bf16", "%32", "%33", "%34", "%35", "%36", "%37", ", 1");
  if constexpr (kCount == 64)
    HUNYUAN_WGMMA_RS(64, "m64n128k16.f32.bf16.bf16", "%64", "%65", "%66", "%67", "%68", "%69", ", 1");
}

// D [64, 2 kCount] (+)= A [64, 16] B [16, 2 kCount], float16; A and B are descriptors of tiles with K along their
// panels.
template <int kCount>
__device__ void wgmma_f16(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  static_assert(kCount == 64, "no float16 wgmma list of this width");
  HUNYUAN_WGMMA_SS(64, "m64n128k16.f32.f16.f16", "%64", "%65", "%66", ", 0, 0");
}

// D [64, 2 kCount] (+)= A [64, 32] B [32, 2 kCount], e4m3; K along the panels of both.
template <int kCount>
__device__ void wgmma_e4m3(float (&d)[kCount], uint64_t a, uint64_t b, int accumulate) {
  static_assert(kCount == 64, "no e4m3 wgmma list of this width with both operands in shared memory");
  HUNYUAN_WGMMA_SS(64, "m64n128k32.f32.e4m3.e4m3", "%64", "%65", "%66", "");
}

// D [64, 2 kCount] (+)= A [64, 32] B [32, 2 kCount], e4m3; A in registers, K along the panels of B.
template <int kCount>
__device__ void wgmma_e4m3(float (&d)[kCount], const uint32_t* a, uint64_t b, int accumulate) {
  static_assert(kCount == 32 || kCount == 64, "no e4m3 wgmma list of this width with A in registers");
  if constexpr (kCount == 32)
    HUNYUAN_WGMMA_RS(32, "m64n64k32.f32.e4m3.e4m3", "%32", "%33", "%34", "%35", "%36", "%37", "");
  if constexpr (kCount == 64)
    HUNYUAN_WGMMA_RS(64, "m64n128k32.f32.e4m3.e4m3", "%64", "%65", "%66", "%67", "%68", "%69", "");
}

#undef HUNYUAN_WGMMA_SS
#undef HUNYUAN_WGMMA_RS
#undef HUNYUAN_WGMMA_REGISTERS_32
#undef HUNYUAN_WGMMA_OUT_32
#undef HUNYUAN_WGMMA_REGISTERS_64
#undef HUNYUAN_WGMMA_OUT_64
#undef HUNYUAN_WGMMA_REGISTERS_88
#undef HUNYUAN_WGMMA_OUT_88

}  // namespace hunyuan::ptx
