// Gradients of layer_norm_modulate and gate_residual: checks, and sums over tokens in pieces of a fixed size.
#include <algorithm>
#include <new>

#include "common/host/parallel.h"
#include "common/host/status.h"
#include "common/host/workspace.h"
#include "norm/norm.h"

namespace hunyuan {
namespace {

constexpr int64_t kPieceTokens = 64;

template <class Args>
int check(const Args& args, hunyuan_target target, const char* name) {
  if (args.batch < 0 || args.tokens < 0 || args.channels < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "%s: sizes must not be negative", name);
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "%s: has no CUDA kernel", name);
  if (args.dtype != HUNYUAN_F32 && args.dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "%s: takes float32 or bfloat16", name);
  return HUNYUAN_OK;
}

// kernel(args, sample, begin, end, sums) for all pieces; then the `vectors` gradients [batch, channels] from their
// sums.
template <class Args, class Kernel>
int run(const Args& args, Kernel kernel, void* const* grads, int64_t vectors, int threads) {
  const auto add = HUNYUAN_PICK(add_rows);
  const int64_t pieces = (args.tokens + kPieceTokens - 1) / kPieceTokens, row = vectors * args.channels;
  const int64_t item = args.dtype == HUNYUAN_F32 ? 4 : 2;
  try {
    const Workspace memory(args.batch * pieces * row * static_cast<int64_t>(sizeof(float)));
    float* sums = reinterpret_cast<float*>(memory.data());
    parallel_ranges(args.batch * pieces, args.batch * args.tokens * args.channels, threads,
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        const int64_t token = i % pieces * kPieceTokens;
                        kernel(args, i / pieces, token, std::min(token + kPieceTokens, args.tokens), sums + i * row);
                      }
                    });
    for (int64_t b = 0; b < args.batch; ++b)
      for (int64_t v = 0; v < vectors; ++v)
        add(sums + b * pieces * row + v * args.channels, pieces, row, args.channels,
            static_cast<char*>(grads[v]) + b * args.channels * item, args.dtype);
  } catch (const std::bad_alloc&) {
    return fail(HUNYUAN_BAD_ARGUMENT, "not enough memory for the sums over tokens");
  }
  return HUNYUAN_OK;
}

}  // namespace
}  // namespace hunyuan

extern "C" int hunyuan_layer_norm_modulate_backward(const hunyuan_layer_norm_modulate_backward_args* args,
                                                    hunyuan_target target) {
  using namespace hunyuan;
  if (const int status = check(*args, target, "layer_norm_modulate_backward")) return status;
  void* const grads[] = {args->grad_shift, args->grad_scale};
  return run(*args, HUNYUAN_PICK(layer_norm_backward_tokens), grads, 2, target.threads);
}

extern "C" int hunyuan_gate_residual_backward(const hunyuan_gate_residual_backward_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (const int status = check(*args, target, "gate_residual_backward")) return status;
  void* const grads[] = {args->grad_gate};
  return run(*args, HUNYUAN_PICK(gate_backward_tokens), grads, 1, target.threads);
}
