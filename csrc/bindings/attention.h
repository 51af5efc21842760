// Attention proper, on the device. Included by bindings.cpp alone.
#pragma once

#include "bindings/rope.h"
#include "bindings/tensor.h"
#include "hunyuan_attention_fp8.h"

namespace hunyuan::binding {

// Strides of a tensor [batch, tokens, heads, head_dim] for the kernels; that of a single element is never used.
inline void strides_of(const Tensor& tensor, int64_t (&stride)[3]) {
  for (int i = 0; i < 3; ++i) stride[i] = tensor.shape[i] == 1 ? 0 : tensor.stride[i];
}

// What both kernels read: q, k, v, out of bf16; kv_len: [batch] int32 or None; blocks: None or (row_starts, key_blocks,
// query_tile, key_tile), int32 tensors.
inline hunyuan_attention_args attention_args(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                                             py::handle kv_len_, py::handle blocks, float scale) {
  q.require(4, 1, q.dtype);
  k.require(4, 1, q.dtype).require_shape({q.shape[0], k.shape[1], q.shape[2], q.shape[3]});
  v.require(4, 1, q.dtype).require_shape({q.shape[0], k.shape[1], q.shape[2], q.shape[3]});
  out.require(4, 1, q.dtype).require_shape({q.shape[0], q.shape[1], q.shape[2], q.shape[3]});
  hunyuan_attention_args args{};
  args.q = q.data, args.k = k.data, args.v = v.data, args.out = out.data;
  args.batch = q.shape[0], args.queries = q.shape[1], args.keys = k.shape[1];
  args.heads = q.shape[2], args.head_dim = q.shape[3], args.scale = scale, args.dtype = q.dtype;
  strides_of(q, args.q_stride), strides_of(k, args.k_stride), strides_of(v, args.v_stride);
  strides_of(out, args.out_stride);
  if (!kv_len_.is_none()) {
    const Tensor kv_len(kv_len_, "kv_len");
    kv_len.require(1, 1, HUNYUAN_I32).require_shape({args.batch}).require_beside(q);
    args.kv_len = static_cast<const int32_t*>(kv_len.data);
  }
  if (!blocks.is_none()) {
    const auto list = py::reinterpret_borrow<py::tuple>(blocks);
    const Tensor row_starts(list[0], "row_starts"), key_blocks(list[1], "key_blocks");
    args.query_tile = list[2].cast<int64_t>(), args.key_tile = list[3].cast<int64_t>();
    if (args.query_tile <= 0) throw py::value_error("block_mask: query_tile must be positive");
    row_starts.require(1, 1, HUNYUAN_I32).require_beside(q);
    if ((row_starts.shape[0] - 1) * args.query_tile < args.queries)
      throw py::value_error("row_starts: its tiles do not cover all queries");
    key_blocks.require(1, 1, HUNYUAN_I32).require_beside(q);
    args.row_starts = static_cast<const int32_t*>(row_starts.data);
    args.key_blocks = static_cast<const int32_t*>(key_blocks.data);
  }
  return args;
}

// out and lse [batch, heads, queries]; keys of one length with the same heads.
inline void attention(py::handle q_, py::handle k_, py::handle v_, py::handle out_, py::handle lse_, py::handle kv_len,
                      py::handle blocks, float scale) {
  const Tensor q(q_, "q"), k(k_, "k"), v(v_, "v"), out(out_, "out"), lse(lse_, "lse");
  hunyuan_attention_args args = attention_args(q, k, v, out, kv_len, blocks, scale);
  lse.require(3, 3, HUNYUAN_F32).require_shape({args.batch, args.heads, args.queries});
  args.lse = static_cast<float*>(lse.data);
  run(hunyuan_attention, args, target_of({&q, &k, &v, &out, &lse}, 1), q.count());
}

// q, k as projected: norms and rope as in qk_norm_rope. workspace: attention_fp8_workspace bytes.
inline void attention_fp8(py::handle q_, py::handle k_, py::handle v_, py::handle out_, py::tuple norms,
                          py::object rope, int64_t text_tokens, float eps, py::handle kv_len, py::handle blocks,
                          float scale, py::handle workspace_) {
  const Tensor q(q_, "q"), k(k_, "k"), v(v_, "v"), out(out_, "out"), workspace(workspace_, "workspace");
  const hunyuan_attention_args args = attention_args(q, k, v, out, kv_len, blocks, scale);
  const hunyuan_target target = target_of({&q, &k, &v, &out, &workspace}, 1);
  hunyuan_norm_rope_args before{};
  before.text_tokens = text_tokens, before.eps = eps, before.norm_dtype = HUNYUAN_OTHER;
  for (int i = 0; i < 2; ++i) {
    before.norm[i] = vector_data(norms[i], "norm weight", args.head_dim, q, before.norm_dtype);
    before.text_norm[i] = vector_data(norms[2 + i], "text norm weight", args.head_dim, q, before.norm_dtype);
  }
  const RopeTables tables(rope, args.keys - text_tokens, q);
  before.cos = tables.cos, before.sin = tables.sin;
  before.cos_stride = tables.cos_stride, before.sin_stride = tables.sin_stride;
  if (workspace.count() * workspace.item_bytes < hunyuan_attention_fp8_workspace(&args) ||
      !workspace.dense(workspace.dims))
    throw py::value_error("workspace: is too small or not contiguous");
  int status;
  {
    py::gil_scoped_release released;
    status = hunyuan_attention_fp8(&args, &before, workspace.data, target);
  }
  check(status);
}

// Bytes that FP8 attention needs beside its inputs.
inline int64_t attention_fp8_workspace(int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t head_dim) {
  hunyuan_attention_args args{};
  args.batch = batch, args.queries = queries, args.keys = keys, args.heads = heads, args.head_dim = head_dim;
  return hunyuan_attention_fp8_workspace(&args);
}

}  // namespace hunyuan::binding
