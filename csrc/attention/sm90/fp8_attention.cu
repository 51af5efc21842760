// FP8 attention on Hopper: the passes before it, tensor maps and the choice of the kernel.
#include "attention/sm90/fp8.h"
#include "attention/sm90/fp8_consumer.cuh"
#include "attention/sm90/kernel.cuh"

namespace hunyuan::attention {
namespace {

using namespace sm90;

template <class T>
int forward(const hunyuan_attention_args& args, const Fp8Workspace& w, char* workspace, hunyuan_target target) {
  const auto floats = [workspace](int64_t offset) { return reinterpret_cast<float*>(workspace + offset); };
  const auto describe = [&](CUtensorMap* map, int64_t offset, int64_t width, int64_t rows, int box_rows,
                            const char* what) {
    const TensorView4 view{
        workspace + offset, {width, rows, args.heads, args.batch}, {1, width, width * rows, width * rows * args.heads}};
    return make_tensor_map(map, view, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, T::kPanelWidth, box_rows, what);
  };
  Fp8Params params{};
  fill<T>(params, args);
  params.query_scale = floats(w.q_scale), params.key_scale = floats(w.k_scale), params.value_scale = floats(w.v_scale);
  params.lse_shift = floats(w.lse_shift);
  int status = describe(&params.query, w.q, args.head_dim, args.queries, T::kRows, "q");
  if (status == HUNYUAN_OK) status = describe(&params.key, w.k, args.head_dim, args.keys, T::kBoxKeys, "k");
  if (status == HUNYUAN_OK) status = describe(&params.value, w.v, w.blocks * kFp8Tile, args.head_dim, T::kBoxRows, "v");
  return status == HUNYUAN_OK ? start<T, Fp8Consumer>(params, args, target) : status;
}

static_assert(Traits<128, false, true>::kKeys == kFp8Tile, "a scale belongs to a key tile");

}  // namespace

int forward_fp8_sm90(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before, void* workspace,
                     hunyuan_target target) {
  const Fp8Workspace w = fp8_workspace(args);
  char* bytes = static_cast<char*>(workspace);
  int status = norm_rope_quantize(args, before, w, bytes, target);
  if (status == HUNYUAN_OK) status = quantize_values(args, w, bytes, target);
  if (status != HUNYUAN_OK) return status;
  return args.row_starts ? forward<Traits<128, true, true>>(args, w, bytes, target)
                         : forward<Traits<128, false, true>>(args, w, bytes, target);
}

}  // namespace hunyuan::attention
