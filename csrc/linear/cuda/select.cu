// Which FP8 product runs on a device.
#include "common/cuda/device.cuh"
#include "linear/linear.h"

namespace hunyuan {

int linear_fp8_cuda(const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  return on_device(target.device, [&](int capability) {
    if (capability == 90) return linear::sm90_linear_fp8(args, target);
    if (capability == 89) return linear::sm89_linear_fp8(args, target);
    return no_kernel_for("linear_fp8", capability, "8.9 or 9.0");
  });
}

}  // namespace hunyuan
