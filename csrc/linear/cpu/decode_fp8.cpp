// e4m3 -> float32 or bfloat16, times a scale: bound by memory in float32.
#include "common/simd/e4m3.h"
#include "linear/linear.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
void decode(const uint8_t* codes, int64_t count, float scale, T* out) {
  const Vec factor = set(scale);
  for_each_vec(count, [&](int64_t i, auto piece) { store(out + i, load_e4m3(codes + i, piece) * factor, piece); });
}

}  // namespace

void decode_fp8_run(const uint8_t* codes, int64_t count, float scale, hunyuan_dtype dtype, void* out) {
  if (dtype == HUNYUAN_F32) return decode(codes, count, scale, static_cast<float*>(out));
  decode(codes, count, scale, static_cast<bf16*>(out));
}

}  // namespace hunyuan::HUNYUAN_LEVEL
