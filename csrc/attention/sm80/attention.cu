// Launch of the mma.sync attention kernels, compute capability 8.x.
#include "attention/forward.h"
#include "attention/sm80/kernel.cuh"
#include "common/cuda.cuh"

namespace hunyuan {
namespace {

using namespace attention::sm80;

template <class T>
int launch(const hunyuan_attention_args& args, hunyuan_target target) {
  HUNYUAN_CUDA_CHECK(cudaFuncSetAttribute(attention_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes));
  const int64_t tiles = attention::work_count(args, T::kRows);
  attention_kernel<T><<<static_cast<unsigned>(tiles), T::kThreads, T::kSharedBytes, static_cast<cudaStream_t>(target.stream)>>>(
      args, attention::exponent_factor(args.scale));
  HUNYUAN_CUDA_CHECK(cudaGetLastError());
  return HUNYUAN_OK;
}

template <int kWarps>
int launch_warps(const hunyuan_attention_args& args, hunyuan_target target) {
  const bool listed = args.row_starts != nullptr;
  if (args.head_dim == 128)
    return listed ? launch<Traits<128, kWarps, true>>(args, target) : launch<Traits<128, kWarps, false>>(args, target);
  return listed ? launch<Traits<64, kWarps, true>>(args, target) : launch<Traits<64, kWarps, false>>(args, target);
}

}  // namespace

namespace attention {

int forward_sm80(const hunyuan_attention_args& args, hunyuan_target target) {
  int minor = 0;
  HUNYUAN_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, target.device));
  return warps_for(minor) == 4 ? launch_warps<4>(args, target) : launch_warps<8>(args, target);
}

}  // namespace attention
}  // namespace hunyuan
