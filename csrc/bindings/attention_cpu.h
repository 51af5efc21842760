// The whole attention on the CPU. Included by bindings.cpp alone.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "bindings/rope.h"
#include "bindings/tensor.h"
#include "hunyuan_training.h"

namespace hunyuan::binding {

// Data of an int32 vector on the CPU.
inline const int32_t* int32_data(const Tensor& vector) {
  if (vector.dims != 1 || vector.dtype != HUNYUAN_I32 || !vector.dense(1) || vector.device >= 0)
    throw py::type_error(vector.text() + ": a contiguous int32 vector on the CPU is needed");
  return static_cast<const int32_t*>(vector.data);
}

// The operands that forward and backward pass share. norms, rope: as qk_norm_rope takes them; kv_len: a list or None.
inline void set_operands(hunyuan_rope_attention_args& args, const Tensor (&in)[4], const py::tuple& norms,
                         const py::object& rope, const std::optional<std::vector<int64_t>>& kv_len) {
  const auto& [q, k, v, out] = in;
  const auto shape = {q.shape[0], q.shape[1], q.shape[2], q.shape[3]};
  for (const Tensor* tensor : {&q, &k, &v}) tensor->require(4, 1, q.dtype).require_shape(shape);
  out.require(4, 4, q.dtype).require_shape(shape);
  args.q = q.data, args.k = k.data, args.v = v.data, args.out = out.data;
  for (int i = 0; i < 3; ++i)
    args.q_stride[i] = q.stride[i], args.k_stride[i] = k.stride[i], args.v_stride[i] = v.stride[i];
  args.batch = q.shape[0], args.tokens = q.shape[1], args.heads = q.shape[2], args.head_dim = q.shape[3];
  args.dtype = q.dtype, args.norm_dtype = HUNYUAN_OTHER;
  for (int i = 0; i < 2; ++i) {
    args.norm[i] = vector_data(norms[i], "norm weight", args.head_dim, q, args.norm_dtype);
    args.text_norm[i] = vector_data(norms[2 + i], "text norm weight", args.head_dim, q, args.norm_dtype);
  }
  const RopeTables tables(rope, args.tokens - args.text_tokens, q);
  args.cos = tables.cos, args.sin = tables.sin;
  args.cos_stride = tables.cos_stride, args.sin_stride = tables.sin_stride;
  if (kv_len) {
    if (static_cast<int64_t>(kv_len->size()) != args.batch)
      throw py::value_error("kv_len: one length a sample is needed");
    args.kv_len = kv_len->data();
  }
}

// Data of a contiguous float32 tensor of this shape beside `x`, or null for None.
inline float* floats(py::handle object, const char* name, std::initializer_list<int64_t> shape, const Tensor& x) {
  if (object.is_none()) return nullptr;
  const Tensor tensor(object, name);
  const int dims = static_cast<int>(shape.size());
  tensor.require(dims, dims, HUNYUAN_F32).require_shape(shape).require_beside(x);
  return static_cast<float*>(tensor.data);
}

// block_list: (row_starts, key_blocks, query_tile, key_tile) or None; lse: [batch, heads, tokens] float32, or None.
inline void rope_attention(py::handle q_, py::handle k_, py::handle v_, py::handle out_, py::tuple norms,
                           py::object rope, std::optional<std::vector<int64_t>> kv_len, py::object block_list,
                           int64_t text_tokens, float eps, float scale, int unit, int threads, py::object lse) {
  const Tensor in[4] = {{q_, "q"}, {k_, "k"}, {v_, "v"}, {out_, "out"}};
  hunyuan_rope_attention_args args{};
  args.text_tokens = text_tokens, args.eps = eps, args.scale = scale;
  args.unit = static_cast<hunyuan_attention_unit>(unit);
  set_operands(args, in, norms, rope, kv_len);
  args.lse = floats(lse, "lse", {args.batch, args.heads, args.tokens}, in[0]);
  if (!block_list.is_none()) {
    const py::tuple list = block_list;
    const Tensor row_starts(list[0], "row_starts"), key_blocks(list[1], "key_blocks");
    args.row_starts = int32_data(row_starts), args.key_blocks = int32_data(key_blocks);
    args.list_rows = row_starts.shape[0] - 1, args.list_pairs = key_blocks.shape[0];
    args.query_tile = list[2].cast<int64_t>(), args.key_tile = list[3].cast<int64_t>();
  }
  run(hunyuan_rope_attention, args, target_of({&in[0], &in[1], &in[2], &in[3]}, threads), 2 * in[0].count());
}

// forward: (q, k, v, out, lse); grads: of q, k and v, with equal strides; grad_norms: float32, None where the norm is.
inline void rope_attention_backward(py::tuple forward, py::handle grad_out_, py::tuple grads, py::tuple grad_norms,
                                    py::tuple norms, py::object rope, std::optional<std::vector<int64_t>> kv_len,
                                    int64_t text_tokens, float eps, float scale, int unit, int threads) {
  const Tensor in[4] = {{forward[0], "q"}, {forward[1], "k"}, {forward[2], "v"}, {forward[3], "out"}};
  const Tensor& q = in[0];
  hunyuan_rope_attention_backward_args args{};
  args.forward.text_tokens = text_tokens, args.forward.eps = eps, args.forward.scale = scale;
  args.forward.unit = static_cast<hunyuan_attention_unit>(unit);
  set_operands(args.forward, in, norms, rope, kv_len);
  args.forward.lse = floats(forward[4], "lse", {q.shape[0], q.shape[2], q.shape[1]}, q);
  const auto shape = {q.shape[0], q.shape[1], q.shape[2], q.shape[3]};
  const Tensor grad_out(grad_out_, "grad_out");
  args.grad_out = grad_out.require(4, 1, q.dtype).require_shape(shape).require_beside(q).data;
  const Tensor out[3] = {{grads[0], "grad_q"}, {grads[1], "grad_k"}, {grads[2], "grad_v"}};
  for (int i = 0; i < 3; ++i) {
    args.grad[i] = out[i].require(4, 1, q.dtype).require_shape(shape).require_beside(q).data;
    if (!std::equal(out[0].stride.begin(), out[0].stride.begin() + 3, out[i].stride.begin()))
      throw py::value_error("grads: all three must have the same strides");
    args.grad_out_stride[i] = grad_out.stride[i], args.grad_stride[i] = out[0].stride[i];
  }
  for (int i = 0; i < 2; ++i) {
    args.grad_norm[i] = floats(grad_norms[i], "grad_norm", {q.shape[3]}, q);
    args.grad_text_norm[i] = floats(grad_norms[2 + i], "grad_text_norm", {q.shape[3]}, q);
    if (!args.grad_norm[i] != !args.forward.norm[i] || !args.grad_text_norm[i] != !args.forward.text_norm[i])
      throw py::value_error("grad_norms: one for every norm weight is needed");
  }
  run(hunyuan_rope_attention_backward, args, target_of({&in[0], &in[1], &in[2], &in[3]}, threads), 2 * q.count());
}

}  // namespace hunyuan::binding
