// The whole attention on the CPU. Included by bindings.cpp alone.
#pragma once

#include <optional>
#include <vector>

#include "bindings/tensor.h"

namespace hunyuan::binding {

// Data of an int32 vector on the CPU.
inline const int32_t* int32_data(const Tensor& vector) {
  if (vector.dims != 1 || vector.dtype != HUNYUAN_I32 || !vector.dense(1) || vector.device >= 0)
    throw py::type_error(vector.text() + ": a contiguous int32 vector on the CPU is needed");
  return static_cast<const int32_t*>(vector.data);
}

// norms, rope: as qk_norm_rope takes them; kv_len: a list or None; block_list: (row_starts, key_blocks, query_tile,
// key_tile) or None.
inline void rope_attention(py::handle q_, py::handle k_, py::handle v_, py::handle out_, py::tuple norms,
                           py::object rope, std::optional<std::vector<int64_t>> kv_len, py::object block_list,
                           int64_t text_tokens, float eps, float scale, int unit, int threads) {
  const Tensor q(q_, "q"), k(k_, "k"), v(v_, "v"), out(out_, "out");
  const auto shape = {q.shape[0], q.shape[1], q.shape[2], q.shape[3]};
  for (const Tensor* tensor : {&q, &k, &v}) tensor->require(4, 1, q.dtype).require_shape(shape);
  out.require(4, 4, q.dtype).require_shape(shape);
  hunyuan_rope_attention_args args{};
  args.q = q.data, args.k = k.data, args.v = v.data, args.out = out.data;
  for (int i = 0; i < 3; ++i)
    args.q_stride[i] = q.stride[i], args.k_stride[i] = k.stride[i], args.v_stride[i] = v.stride[i];
  args.batch = q.shape[0], args.tokens = q.shape[1], args.heads = q.shape[2], args.head_dim = q.shape[3];
  args.text_tokens = text_tokens, args.eps = eps, args.scale = scale, args.dtype = q.dtype;
  args.unit = static_cast<hunyuan_attention_unit>(unit);
  args.norm_dtype = HUNYUAN_OTHER;
  for (int i = 0; i < 2; ++i) {
    args.norm[i] = vector_data(norms[i], "norm weight", args.head_dim, q, args.norm_dtype);
    args.text_norm[i] = vector_data(norms[2 + i], "text norm weight", args.head_dim, q, args.norm_dtype);
  }
  if (!rope.is_none()) {
    const py::tuple pair = rope;
    const Tensor cos(pair[0], "cos"), sin(pair[1], "sin");
    for (const Tensor* table : {&cos, &sin})
      table->require(2, 1, HUNYUAN_F32).require_shape({args.tokens - text_tokens, args.head_dim}).require_beside(q);
    args.cos = static_cast<const float*>(cos.data), args.sin = static_cast<const float*>(sin.data);
    args.cos_stride = cos.stride[0], args.sin_stride = sin.stride[0];
  }
  if (kv_len) {
    if (static_cast<int64_t>(kv_len->size()) != args.batch)
      throw py::value_error("kv_len: one length a sample is needed");
    args.kv_len = kv_len->data();
  }
  if (!block_list.is_none()) {
    const py::tuple list = block_list;
    const Tensor row_starts(list[0], "row_starts"), key_blocks(list[1], "key_blocks");
    args.row_starts = int32_data(row_starts), args.key_blocks = int32_data(key_blocks);
    args.list_rows = row_starts.shape[0] - 1, args.list_pairs = key_blocks.shape[0];
    args.query_tile = list[2].cast<int64_t>(), args.key_tile = list[3].cast<int64_t>();
  }
  run(hunyuan_rope_attention, args, target_of({&q, &k, &v, &out}, threads), 2 * q.count());
}

}  // namespace hunyuan::binding
