// The Hopper forward kernels: roles of the warpgroups. Warpgroup 0 is the producer, the others consume.
#pragma once

#include "attention/sm90/producer.cuh"
#include "common/launch.cuh"

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

}  // namespace hunyuan::attention::sm90
