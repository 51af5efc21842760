// cpuid: what the processor supports, and the level in effect.
#include "common/host/isa.h"

#if defined(HUNYUAN_X86)
#include <cpuid.h>
#endif
#if defined(HUNYUAN_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <string>

#include "common/host/status.h"

namespace {

const char* const level_names[] = {"scalar", "avx2", "avx512"};

#if defined(HUNYUAN_X86)
// One row per feature that a kernel here or in torch's oneDNN asks for; reported by `doctor`.
// clang-format off
#define HUNYUAN_FEATURES(X)                                                                       \
  X("avx2") X("fma") X("f16c")                                                                    \
  X("avx512f") X("avx512bw") X("avx512dq") X("avx512vl") X("avx512vbmi") X("avx512vnni") X("avx512bf16")
// clang-format on

std::string find_features() {
  __builtin_cpu_init();
  std::string names;
  const auto append = [&](bool present, const char* name) {
    if (present) names += std::string(names.empty() ? "" : " ") + name;
  };
#define HUNYUAN_APPEND(name) append(__builtin_cpu_supports(name), name);
  HUNYUAN_FEATURES(HUNYUAN_APPEND)
#undef HUNYUAN_APPEND
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;  // leaf 7: features that GCC 12 has no name for
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    append(edx >> 22 & 1, "amx_bf16");
    append(edx >> 23 & 1, "avx512fp16");
    append(edx >> 25 & 1, "amx_int8");
  }
  return names;
}

bool supports_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool supports_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

hunyuan_isa find_level() {
  __builtin_cpu_init();
  if (!supports_avx2()) return HUNYUAN_SCALAR;
  return supports_avx512() ? HUNYUAN_AVX512 : HUNYUAN_AVX2;
}
#else
std::string find_features() { return ""; }
hunyuan_isa find_level() { return HUNYUAN_SCALAR; }
#endif

std::atomic<int> level_cap{HUNYUAN_AVX512};

}  // namespace

extern "C" {

hunyuan_isa hunyuan_isa_supported(void) {
  static const hunyuan_isa level = find_level();
  return level;
}

hunyuan_isa hunyuan_isa_in_use(void) {
  const int cap = level_cap.load(std::memory_order_relaxed);
  return cap < hunyuan_isa_supported() ? static_cast<hunyuan_isa>(cap) : hunyuan_isa_supported();
}

int hunyuan_set_isa(hunyuan_isa level) {
  if (level < HUNYUAN_SCALAR || level > HUNYUAN_AVX512)
    return hunyuan::fail(HUNYUAN_BAD_ARGUMENT, "isa: %d is not a level; use 0 (scalar), 1 (avx2) or 2 (avx512)", level);
  if (level > hunyuan_isa_supported())
    return hunyuan::fail(HUNYUAN_BAD_ARGUMENT, "isa: this processor supports %s at most, %s was asked for",
                         level_names[hunyuan_isa_supported()], level_names[level]);
  level_cap.store(level, std::memory_order_relaxed);
  return HUNYUAN_OK;
}

const char* hunyuan_cpu_features(void) {
  static const std::string names = find_features();
  return names.c_str();
}

int hunyuan_cpu_is_intel(void) {
#if defined(HUNYUAN_X86)
  return __builtin_cpu_is("intel") != 0;
#else
  return 0;
#endif
}

}  // extern "C"

namespace hunyuan {

#if defined(HUNYUAN_X86)
#define HUNYUAN_HAS(feature)                                     \
  static const bool supported = __builtin_cpu_supports(feature); \
  return supported && hunyuan_isa_in_use() == HUNYUAN_AVX512;
#else
#define HUNYUAN_HAS(feature) return false;
#endif

bool has_avx512_vbmi() { HUNYUAN_HAS("avx512vbmi") }
bool has_avx512_bf16() { HUNYUAN_HAS("avx512bf16") }
bool has_avx512_vnni() { HUNYUAN_HAS("avx512vnni") }

bool has_amx() {
#if defined(HUNYUAN_AMX)
  static const bool supported = [] {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    // Linux keeps the 8 KB of tile registers from a process until it asks for them, once.
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
           __builtin_cpu_supports("amx-int8") && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return supported && has_avx512_bf16() && has_avx512_vbmi();
#else
  return false;
#endif
}

}  // namespace hunyuan
