// x + gate * y: one pass, bound by memory.
#include "norm/norm.h"

#include "common/simd/simd.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

template <class T>
void gate_rows(const hunyuan_gate_residual_args& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / args.tokens, s = row % args.tokens;
    const T* x = static_cast<const T*>(args.x) + b * args.x_batch_stride + s * args.x_token_stride;
    const T* y = static_cast<const T*>(args.y) + b * args.y_batch_stride + s * args.y_token_stride;
    const T* gate = static_cast<const T*>(args.gate) + b * args.gate_batch_stride;
    T* out = static_cast<T*>(args.out) + row * args.channels;
    for_each_vec(args.channels, [&](int64_t c, auto part) {
      store(out + c, fma(load(gate + c, part), load(y + c, part), load(x + c, part)), part);
    });
  }
}

}  // namespace

void gate_residual_rows(const hunyuan_gate_residual_args& args, int64_t begin, int64_t end) {
  if (args.dtype == HUNYUAN_F32) return gate_rows<float>(args, begin, end);
  gate_rows<bf16>(args, begin, end);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
