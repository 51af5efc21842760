// C entries of the emulated kernels, one an op; called by tests/cuda/emulated.py.
#include "common/status.h"
#include "norm/norm.h"

using namespace hunyuan;

namespace {
constexpr hunyuan_target kDevice{0, nullptr, 1};
}

#define HUNYUAN_EMULATED(op) \
  extern "C" int emulated_##op(const hunyuan_##op##_args* args) { return op##_cuda(*args, kDevice); }

HUNYUAN_EMULATED(layer_norm_modulate)
HUNYUAN_EMULATED(gate_residual)
HUNYUAN_EMULATED(group_norm_silu)

extern "C" int64_t emulated_group_norm_silu_workspace(const hunyuan_group_norm_silu_args* args) {
  return group_norm_silu_cuda_workspace(*args);
}
