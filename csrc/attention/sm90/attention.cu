// Launch of the Hopper attention kernels.
#include "attention/forward.h"
#include "attention/sm90/consumer.cuh"
#include "attention/sm90/kernel.cuh"
#include "common/cuda.cuh"
#include "common/tensor_map.cuh"

namespace hunyuan {
namespace {

using namespace attention::sm90;

template <class T>
int tensor_map(CUtensorMap* map, const void* data, int64_t tokens, const int64_t (&stride)[3], int box_rows,
               const hunyuan_attention_args& args, const char* what) {
  const TensorView4 view{data, {args.head_dim, tokens, args.heads, args.batch}, {1, stride[1], stride[2], stride[0]}};
  return make_tensor_map(map, view, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, T::kPanelWidth, box_rows, what);
}

template <class T>
int start(const hunyuan_attention_args& args, hunyuan_target target) {
  Params params{};
  int status = tensor_map<T>(&params.query, args.q, args.queries, args.q_stride, T::kRows, args, "q");
  if (status == HUNYUAN_OK)
    status = tensor_map<T>(&params.key, args.k, args.keys, args.k_stride, T::kBoxKeys, args, "k");
  if (status == HUNYUAN_OK)
    status = tensor_map<T>(&params.value, args.v, args.keys, args.v_stride, T::kBoxKeys, args, "v");
  if (status != HUNYUAN_OK) return status;
  params.out = static_cast<__nv_bfloat16*>(args.out);
  params.out_batch_stride = args.out_stride[0], params.out_token_stride = args.out_stride[1];
  params.out_head_stride = args.out_stride[2];
  params.lse = args.lse, params.kv_len = args.kv_len;
  params.row_starts = args.row_starts, params.key_blocks = args.key_blocks;
  params.tiles_per_row = static_cast<int>(args.query_tile / T::kRows);
  params.tiles_per_block = static_cast<int>(args.key_tile / T::kKeys);
  params.batch = static_cast<int>(args.batch), params.heads = static_cast<int>(args.heads);
  params.queries = static_cast<int>(args.queries), params.keys = static_cast<int>(args.keys);
  params.factor = attention::exponent_factor(args.scale);

  LaunchShape shape{attention::work_count(args, T::kRows * T::kCluster) * T::kCluster, T::kThreads, T::kSharedBytes,
                    T::kCluster};
  if constexpr (!T::kListed) {  // rows of a list differ in length: there the hardware hands out the tiles
    int resident = 0;
    status = resident_blocks("attention", shape, target.device, attention_kernel<T, Consumer>, &resident);
    if (status != HUNYUAN_OK) return status;
    if (resident < shape.blocks) shape.blocks = resident;
  }
  return launch("attention", shape, static_cast<cudaStream_t>(target.stream), attention_kernel<T, Consumer>, params);
}

}  // namespace

namespace attention {

int forward_sm90(const hunyuan_attention_args& args, hunyuan_target target) {
  const bool listed = args.row_starts != nullptr;
  if (args.head_dim == 128)
    return listed ? start<Traits<128, true>>(args, target) : start<Traits<128, false>>(args, target);
  return listed ? start<Traits<64, true>>(args, target) : start<Traits<64, false>>(args, target);
}

}  // namespace attention
}  // namespace hunyuan
