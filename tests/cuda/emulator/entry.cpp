// C entries of the emulated kernels, one an op; called by tests/cuda/emulated.py.
#include <utility>
#include <vector>

#include "attention/attention.h"
#include "attention/sm90/fp8.h"
#include "common/host/status.h"
#include "conv3d/conv3d.h"
#include "linear/linear.h"
#include "linear/sm90/products.h"
#include "norm/norm.h"
#include "runtime.h"

using namespace hunyuan;

namespace {
hunyuan_target target{0, nullptr, 1};  // changed by emulated_machine
}

// The machine and the target of the following calls; forgets what was started before.
extern "C" void emulated_machine(int capability, int refusal, int device, void* stream) {
  emulator::runtime = {};
  emulator::runtime.capability = capability, emulator::runtime.refusal = refusal;
  target = {device, stream, 1};
}
// What happened since: kernels started, the device and stream of all of them (-1: several), the current device.
extern "C" void emulated_history(int64_t* launches, int64_t* device, int64_t* stream, int64_t* current) {
  const auto& runtime = emulator::runtime;
  *launches = runtime.launches, *device = runtime.one_place ? runtime.device : -1;
  *stream = reinterpret_cast<int64_t>(runtime.stream), *current = runtime.current;
}

#define HUNYUAN_EMULATED(op) \
  extern "C" int emulated_##op(const hunyuan_##op##_args* args) { return op##_cuda(*args, target); }

HUNYUAN_EMULATED(layer_norm_modulate)
HUNYUAN_EMULATED(gate_residual)
HUNYUAN_EMULATED(group_norm_silu)
HUNYUAN_EMULATED(pad_causal)
HUNYUAN_EMULATED(quantize_rows)
HUNYUAN_EMULATED(qk_norm_rope)
HUNYUAN_EMULATED(attention)
HUNYUAN_EMULATED(causal_conv3d)
HUNYUAN_EMULATED(linear_fp8)
HUNYUAN_EMULATED(linear_few_rows)

extern "C" int64_t emulated_group_norm_silu_workspace(const hunyuan_group_norm_silu_args* args) {
  return group_norm_silu_cuda_workspace(*args);
}

// Kernels of one architecture, whatever the emulated device says it is.
#define HUNYUAN_EMULATED_ON(arch, family, op) \
  extern "C" int emulated_##arch##_##op(const hunyuan_##op##_args* args) { return family::arch##_##op(*args, target); }

HUNYUAN_EMULATED_ON(mma, conv3d, causal_conv3d)
HUNYUAN_EMULATED_ON(sm90, conv3d, causal_conv3d)
HUNYUAN_EMULATED_ON(sm89, linear, linear_fp8)
HUNYUAN_EMULATED_ON(sm90, linear, linear_fp8)

// The FP8 products of Hopper by name, whichever is picked.
#define HUNYUAN_EMULATED_PRODUCT(name, product)                                       \
  extern "C" int emulated_##name##_linear_fp8(const hunyuan_linear_fp8_args* args) { \
    return linear::sm90_product(linear::Product::product, *args, target);             \
  }
HUNYUAN_EMULATED_PRODUCT(general, kGeneral)
HUNYUAN_EMULATED_PRODUCT(straight, kStraight)

extern "C" int64_t emulated_mma_moment_chunks(const hunyuan_causal_conv3d_args* args) { return conv3d::mma_moment_chunks(*args); }
extern "C" int64_t emulated_sm90_moment_chunks(const hunyuan_causal_conv3d_args* args) { return conv3d::sm90_moment_chunks(*args); }

extern "C" int emulated_sm80_attention(const hunyuan_attention_args* args) {
  return attention::forward_sm80(*args, target, 4);
}
extern "C" int emulated_sm86_attention(const hunyuan_attention_args* args) {
  return attention::forward_sm80(*args, target, 8);
}
extern "C" int emulated_sm90_attention(const hunyuan_attention_args* args) { return attention::forward_sm90(*args, target); }
// The pass before it as emulated_norm_rope was told, once.
static hunyuan_norm_rope_args before{};
extern "C" int emulated_norm_rope(const hunyuan_norm_rope_args* args) { return before = *args, HUNYUAN_OK; }
extern "C" int emulated_fp8_attention(const hunyuan_attention_args* args) {
  std::vector<char> workspace(attention::sm90::fp8_workspace(*args).bytes + 256, static_cast<char>(0xff));  // NaN
  char* aligned = workspace.data() + (256 - reinterpret_cast<uintptr_t>(workspace.data()) % 256);
  return attention::forward_fp8_sm90(*args, std::exchange(before, {}), aligned, target);
}
