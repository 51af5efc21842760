// Which units this processor has. Compiled for the base processor.
#include "attention/cpu/units.h"

#if defined(HUNYUAN_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace hunyuan::attention::cpu {
namespace {

bool has_bfloat16() {
#if defined(HUNYUAN_AVX512BF16)
  static const bool supported = __builtin_cpu_supports("avx512bf16");
  return supported && hunyuan_isa_in_use() == HUNYUAN_AVX512;
#else
  return false;
#endif
}

#if defined(HUNYUAN_AMX)
// Linux keeps the 8 KB of tile registers from a process until it asks for them, once.
bool ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_tiles() {
  static const bool supported =
      __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && ask_for_tiles();
  return supported && has_bfloat16();
}
#endif

}  // namespace

const Unit* find_unit(hunyuan_attention_unit unit) {
  if (unit == HUNYUAN_UNIT_FLOAT) {
    static const Unit units[] = {
        {96, 4, &scalar::rope_attention_pack, &scalar::rope_attention_tile},
#if defined(HUNYUAN_X86)
        {96, 4, &avx2::rope_attention_pack, &avx2::rope_attention_tile},
        {96, 4, &avx512::rope_attention_pack, &avx512::rope_attention_tile},
#endif
    };
    return &units[hunyuan_isa_in_use()];
  }
#if defined(HUNYUAN_AVX512BF16)
  if (unit == HUNYUAN_UNIT_BF16) {
    static const Unit dot{96, 2, &avx512bf16::rope_attention_pack, &avx512bf16::rope_attention_tile};
    return has_bfloat16() ? &dot : nullptr;
  }
#endif
#if defined(HUNYUAN_AMX)
  if (unit == HUNYUAN_UNIT_AMX) {
    static const Unit tiles{128, 2, &avx512bf16::rope_attention_pack, &amx::rope_attention_tile};
    return has_tiles() ? &tiles : nullptr;
  }
#endif
  return nullptr;
}

}  // namespace hunyuan::attention::cpu

extern "C" int hunyuan_has_attention_unit(hunyuan_attention_unit unit) {
  return hunyuan::attention::cpu::find_unit(unit) != nullptr;
}

extern "C" int hunyuan_cpu_is_intel(void) {
#if defined(HUNYUAN_X86)
  return __builtin_cpu_is("intel") != 0;
#else
  return 0;
#endif
}
