// Which attention kernel runs on a device.
#include "attention/attention.h"
#include "attention/sm80/tile.h"
#include "common/cuda/device.cuh"

namespace hunyuan {

int attention_cuda(const hunyuan_attention_args& args, hunyuan_target target) {
  return on_device(target.device, [&](int capability) {
    if (capability == 90) return attention::forward_sm90(args, target);
    if (capability / 10 == 8) return attention::forward_sm80(args, target, attention::sm80::warps_for(capability % 10));
    return no_kernel_for("attention", capability, "8.x or 9.0");
  });
}

int attention_fp8_cuda(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before, void* workspace,
                       hunyuan_target target) {
  return on_device(target.device, [&](int capability) {
    if (capability == 90) return attention::forward_fp8_sm90(args, before, workspace, target);
    return no_kernel_for("attention with FP8 products", capability, "9.0");
  });
}

}  // namespace hunyuan
