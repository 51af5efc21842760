// x * factor: one pass, bound by memory. Compiled once an instruction set; see common/simd.h for the rules.
#include "common/simd/simd.h"
#include "template/template.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
void scale(const T* x, T* out, int64_t count, float factor) {
  const Vec factors = set(factor);
  for_each_vec(count, [&](int64_t i, auto piece) { store(out + i, load(x + i, piece) * factors, piece); });
}

}  // namespace

void template_scale_range(const hunyuan_template_scale_args& args, int64_t begin, int64_t end) {
  if (args.dtype == HUNYUAN_F32)
    return scale(static_cast<const float*>(args.x) + begin, static_cast<float*>(args.out) + begin, end - begin,
                 args.factor);
  scale(static_cast<const bf16*>(args.x) + begin, static_cast<bf16*>(args.out) + begin, end - begin, args.factor);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
