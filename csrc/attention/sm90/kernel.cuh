// The Hopper forward kernels: roles of the warpgroups (0 is the producer, the others consume), and the launch from the
// arguments of the C ABI.
#pragma once

#include "attention/attention.h"
#include "attention/sm90/producer.cuh"
#include "common/cuda/launch.cuh"
#include "common/cuda/tensor_map.cuh"

namespace hunyuan::attention::sm90 {

// `C` is Consumer<T> or Fp8Consumer<T>.
template <class T, template <class> class C>
__global__ void __launch_bounds__(T::kThreads, 1) attention_kernel(const __grid_constant__ ParamsOf<T> params) {
  const Shared<T> shared(device::dynamic_shared());
  const int group = threadIdx.x / kWarpgroup;
  const int rank = T::kCluster == 1 ? 0 : static_cast<int>(ptx::cluster_rank());
  const Schedule schedule{params.batch, params.heads, ceil_div(params.queries, T::kRows * T::kCluster)};
  const int first = blockIdx.x / T::kCluster, step = gridDim.x / T::kCluster;

  if (threadIdx.x == 0) {
    shared.init();
    ptx::prefetch_tensor_map(&params.query);
    ptx::prefetch_tensor_map(&params.key);
    ptx::prefetch_tensor_map(&params.value);
  }
  if constexpr (T::kCluster == 1)
    __syncthreads();
  else
    ptx::cluster_sync();

  if (group == 0) {
    ptx::registers_at_most<kProducerRegisters>();
    if (__shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0) == 0)
      Producer<T>{params, shared, rank}.run(schedule, first, step);
  } else {
    ptx::registers_at_least<kConsumerRegisters>();
    C<T> consumer{params, {shared, group - 1, static_cast<int>(threadIdx.x) % kWarpgroup}};
    consumer.pipeline.begin_turns();
    for (int index = first; index < schedule.count(); index += step) consumer.tile(work_of<T>(schedule, index, rank));
    consumer.pipeline.end_turns();
  }
  // No block leaves while another of its cluster may still copy into its shared memory or arrive at its barriers.
  if constexpr (T::kCluster > 1) ptx::cluster_sync();
}

// Everything but the tensor maps and what only FP8 has.
template <class T>
void fill(Params& params, const hunyuan_attention_args& args) {
  params.out = static_cast<__nv_bfloat16*>(args.out);
  params.out_batch_stride = args.out_stride[0], params.out_token_stride = args.out_stride[1];
  params.out_head_stride = args.out_stride[2];
  params.lse = args.lse, params.kv_len = args.kv_len;
  params.row_starts = args.row_starts, params.key_blocks = args.key_blocks;
  params.tiles_per_row = static_cast<int>(args.query_tile / T::kRows);
  params.tiles_per_block = static_cast<int>(args.key_tile / T::kKeys);
  params.block_keys = static_cast<int>(args.key_tile);
  params.batch = static_cast<int>(args.batch), params.heads = static_cast<int>(args.heads);
  params.queries = static_cast<int>(args.queries), params.keys = static_cast<int>(args.keys);
  params.factor = exponent_factor(args.scale);
}

template <class T, template <class> class C>
int start(const ParamsOf<T>& params, const hunyuan_attention_args& args, hunyuan_target target) {
  LaunchShape shape{work_count(args, T::kRows * T::kCluster) * T::kCluster, T::kThreads, T::kSharedBytes, T::kCluster};
  if constexpr (!T::kBlockMask) {  // rows of a block mask differ in length: there the hardware hands out the tiles
    int resident = 0;
    const int status = resident_blocks("attention", shape, target.device, attention_kernel<T, C>, &resident);
    if (status != HUNYUAN_OK) return status;
    if (resident < shape.blocks) shape.blocks = resident;
  }
  return launch("attention", shape, static_cast<cudaStream_t>(target.stream), attention_kernel<T, C>, params);
}

}  // namespace hunyuan::attention::sm90
