// Which units this processor has. Compiled for the base processor.
#include "attention/cpu/units.h"

namespace hunyuan::attention::cpu {
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
    return has_avx512_bf16() ? &dot : nullptr;
  }
#endif
#if defined(HUNYUAN_AMX)
  if (unit == HUNYUAN_UNIT_AMX) {
    static const Unit tiles{256, 2, &avx512bf16::rope_attention_pack, &amx::rope_attention_tile};
    return has_amx() ? &tiles : nullptr;
  }
  if (unit == HUNYUAN_UNIT_AMX_SPLIT) {
    static const Unit tiles{256, 6, &amx::rope_attention_pack_split, &amx::rope_attention_tile_split};
    return has_amx() ? &tiles : nullptr;
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
