// Which implicit matrix product runs on a device.
#include "common/cuda/device.cuh"
#include "conv3d/conv3d.h"

namespace hunyuan {

int causal_conv3d_cuda(const hunyuan_causal_conv3d_args& args, hunyuan_target target) {
  return on_device(target.device, [&](int capability) {
    if (conv3d::sm90_takes(args, capability)) return conv3d::sm90_causal_conv3d(args, target);
    if (capability >= 80) return conv3d::mma_causal_conv3d(args, target);
    return no_kernel_for("causal_conv3d", capability, "8.0 or later");
  });
}

int causal_conv3d_moment_chunks_cuda(const hunyuan_causal_conv3d_args& args, int device, int64_t* chunks) {
  int capability = 0;
  if (const int status = device_capability(device, &capability)) return status;
  *chunks = conv3d::sm90_takes(args, capability) ? conv3d::sm90_moment_chunks(args) : conv3d::mma_moment_chunks(args);
  return HUNYUAN_OK;
}

}  // namespace hunyuan
