// e4m3 codes of one run to bfloat16 times a scale.
#include "common/simd/e4m3_table.h"
#include "linear/linear.h"

namespace hunyuan::avx512vbmi {

void decode_fp8_run_bf16(const uint8_t* codes, int64_t count, float scale, void* out) {
  const avx512::DecodeTable table(scale);
  bf16* target = static_cast<bf16*>(out);
  __m512i decoded[2];
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    table.decode(_mm512_loadu_si512(codes + i), decoded);
    _mm512_storeu_si512(target + i, decoded[0]);
    _mm512_storeu_si512(target + i + 32, decoded[1]);
  }
  if (i == count) return;
  const __mmask64 rest = (uint64_t{1} << (count - i)) - 1;
  table.decode(_mm512_maskz_loadu_epi8(rest, codes + i), decoded);
  _mm512_mask_storeu_epi16(target + i, static_cast<__mmask32>(rest), decoded[0]);
  _mm512_mask_storeu_epi16(target + i + 32, static_cast<__mmask32>(rest >> 32), decoded[1]);
}

}  // namespace hunyuan::avx512vbmi
