// Launch of a Hopper attention kernel from the arguments of the C ABI.
#pragma once

#include "attention/forward.h"
#include "attention/sm90/kernel.cuh"
#include "common/launch.cuh"
#include "common/tensor_map.cuh"

namespace hunyuan::attention::sm90 {

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
  if constexpr (!T::kListed) {  // rows of a list differ in length: there the hardware hands out the tiles
    int resident = 0;
    const int status = resident_blocks("attention", shape, target.device, attention_kernel<T, C>, &resident);
    if (status != HUNYUAN_OK) return status;
    if (resident < shape.blocks) shape.blocks = resident;
  }
  return launch("attention", shape, static_cast<cudaStream_t>(target.stream), attention_kernel<T, C>, params);
}

}  // namespace hunyuan::attention::sm90
