// Sums of channels and of their squares about a center: one read of x. Positions are taken two at a time, so that four
// chains of additions overlap.
#include "common/simd/simd.h"
#include "norm/norm.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
void sums_of(const T* x, int64_t cells, int64_t channels, const float* center, float* sums) {
  for_each_vec(channels, [&](int64_t c, auto piece) {
    const Vec middle = load(center + c, piece);
    Vec first[2] = {set(0.0f), set(0.0f)}, second[2] = {set(0.0f), set(0.0f)};
    const auto add = [&](int64_t cell, int lane) {
      const Vec distance = load(x + cell * channels + c, piece) - middle;
      first[lane] = first[lane] + distance;
      second[lane] = fma(distance, distance, second[lane]);
    };
    int64_t cell = 0;
    for (; cell + 2 <= cells; cell += 2) add(cell, 0), add(cell + 1, 1);
    if (cell < cells) add(cell, 0);
    store(sums + c, first[0] + first[1], piece);
    store(sums + channels + c, second[0] + second[1], piece);
  });
}

}  // namespace

void channel_sums(const void* x, hunyuan_dtype dtype, int64_t cells, int64_t channels, const float* center,
                  float* sums) {
  if (dtype == HUNYUAN_F32) return sums_of(static_cast<const float*>(x), cells, channels, center, sums);
  sums_of(static_cast<const bf16*>(x), cells, channels, center, sums);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
