// bf16 attention on Hopper: tensor maps and the choice of the kernel.
#include "attention/sm90/consumer.cuh"
#include "attention/sm90/kernel.cuh"

namespace hunyuan::attention {
namespace {

using namespace sm90;

template <class T>
int describe(CUtensorMap* map, const void* data, int64_t tokens, const int64_t (&stride)[3], int box_rows,
             const hunyuan_attention_args& args, const char* what) {
  const TensorView4 view{data, {args.head_dim, tokens, args.heads, args.batch}, {1, stride[1], stride[2], stride[0]}};
  return make_tensor_map(map, view, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, T::kPanelWidth, box_rows, what);
}

template <class T>
int forward(const hunyuan_attention_args& args, hunyuan_target target) {
  Params params{};
  fill<T>(params, args);
  int status = describe<T>(&params.query, args.q, args.queries, args.q_stride, T::kRows, args, "q");
  if (status == HUNYUAN_OK) status = describe<T>(&params.key, args.k, args.keys, args.k_stride, T::kBoxKeys, args, "k");
  if (status == HUNYUAN_OK)
    status = describe<T>(&params.value, args.v, args.keys, args.v_stride, T::kBoxRows, args, "v");
  if (T::kBlockMask && status == HUNYUAN_OK)
    status = describe<T>(&params.key_piece, args.k, args.keys, args.k_stride, kPieceKeys, args, "k");
  if (T::kBlockMask && status == HUNYUAN_OK)
    status = describe<T>(&params.value_piece, args.v, args.keys, args.v_stride, kPieceKeys, args, "v");
  return status == HUNYUAN_OK ? start<T, Consumer>(params, args, target) : status;
}

}  // namespace

int forward_sm90(const hunyuan_attention_args& args, hunyuan_target target) {
  const bool block_mask = args.row_starts != nullptr;
  if (args.head_dim == 128)
    return block_mask ? forward<Traits<128, true>>(args, target) : forward<Traits<128, false>>(args, target);
  return block_mask ? forward<Traits<64, true>>(args, target) : forward<Traits<64, false>>(args, target);
}

}  // namespace hunyuan::attention
