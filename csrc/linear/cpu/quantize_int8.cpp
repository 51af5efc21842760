// Rows to int8, symmetric: one pass for the largest magnitude, one that writes.
#include "common/simd/simd.h"
#include "linear/linear.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

float largest_of(Vec a) {
  float lanes[Vec::width], most = 0.0f;
  store(lanes, a);
  for (int64_t i = 0; i < Vec::width; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

template <class T>
float largest_magnitude(const T* x, int64_t count) {
  Vec most = set(0.0f);
  // Not-a-number loses every comparison, infinity wins: times zero, both are not-a-number and reach the scale.
  Vec broken = set(0.0f);
  for_each_vec(count, [&](int64_t i, auto piece) {
    const Vec value = load(x + i, piece);
    most = max(max(value, set(0.0f) - value), most);
    broken = fma(value, set(0.0f), broken);
  });
  return largest_of(most) + sum(broken);
}

inline void store_bytes(int8_t* out, Vec value, int64_t count, int plus) {
#if defined(HUNYUAN_LEVEL_AVX512)
  const __m512i rounded = _mm512_add_epi32(_mm512_cvtps_epi32(value.lanes), _mm512_set1_epi32(plus));
  _mm512_mask_cvtepi32_storeu_epi8(out, count >= 16 ? __mmask16(0xffff) : first_lanes(count), rounded);
#else
  float lanes[Vec::width];
  store(lanes, round_nearest(value));
  for (int64_t i = 0; i < count && i < Vec::width; ++i)
    out[i] = static_cast<int8_t>(static_cast<uint8_t>(static_cast<int>(lanes[i]) + plus));
#endif
}

template <class T>
void quantize(const T* x, int64_t count, float inverse, int plus, int8_t* out) {
  for_each_vec(count, [&](int64_t i, auto piece) {
    const Vec value = load(x + i, piece) * set(inverse);
    store_bytes(out + i, max(min(value, set(127.0f)), set(-127.0f)), count - i, plus);
  });
}

template <class T>
void quantize_row(const hunyuan_quantize_int8_args& args, const void* const x[2], int8_t* out, float* scale) {
  const T* pieces[2] = {static_cast<const T*>(x[0]), static_cast<const T*>(x[1])};
  const float first = largest_magnitude(pieces[0], args.in_columns[0]);
  const float second = largest_magnitude(pieces[1], args.in_columns[1]);
  const float most = first > second || first != first ? first : second;
  *scale = most == 0.0f ? 1.0f : most / 127.0f;
  const float inverse = most > 0.0f ? 127.0f / most : 0.0f;
  const int plus = args.plus_128 ? 128 : 0;
  quantize(pieces[0], args.in_columns[0], inverse, plus, out);
  quantize(pieces[1], args.in_columns[1], inverse, plus, out + args.in_columns[0]);
}

}  // namespace

void quantize_int8_row(const hunyuan_quantize_int8_args& args, const void* const x[2], int8_t* out, float* scale) {
  args.dtype == HUNYUAN_F32 ? quantize_row<float>(args, x, out, scale) : quantize_row<bf16>(args, x, out, scale);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
