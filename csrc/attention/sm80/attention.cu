// Launch of the mma.sync attention kernels, compute capability 8.x.
#include "attention/attention.h"
#include "attention/sm80/kernel.cuh"
#include "common/cuda/cuda.cuh"

namespace hunyuan {
namespace {

using namespace attention::sm80;

template <class T>
int start(const hunyuan_attention_args& args, hunyuan_target target) {
  const LaunchShape shape{attention::work_count(args, T::kRows), T::kThreads, T::kSharedBytes};
  return launch("attention", shape, static_cast<cudaStream_t>(target.stream), attention_kernel<T>, args,
                attention::exponent_factor(args.scale));
}

template <int kWarps>
int start_warps(const hunyuan_attention_args& args, hunyuan_target target) {
  const bool block_mask = args.row_starts != nullptr;
  if (args.head_dim == 128)
    return block_mask ? start<Traits<128, kWarps, true>>(args, target)
                      : start<Traits<128, kWarps, false>>(args, target);
  return block_mask ? start<Traits<64, kWarps, true>>(args, target) : start<Traits<64, kWarps, false>>(args, target);
}

}  // namespace

namespace attention {

int forward_sm80(const hunyuan_attention_args& args, hunyuan_target target, int warps) {
  return warps == 4 ? start_warps<4>(args, target) : start_warps<8>(args, target);
}

}  // namespace attention
}  // namespace hunyuan
