// Attention: norms and rotation of q and k, the attention of the device and that of the CPU.
#include "hunyuan/attention.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "bindings/tensor.h"

namespace hunyuan::binding {
namespace {

// None, or (cos, sin): [tokens, head_dim] float32 each, beside q [batch, S, heads, head_dim].
struct RopeTables {
  const float *cos = nullptr, *sin = nullptr;
  int64_t cos_stride = 0, sin_stride = 0;

  RopeTables(const py::object& rope, int64_t tokens, const Tensor& q) {
    if (rope.is_none()) return;
    const py::tuple pair = rope;
    const Tensor cos_table(pair[0], "cos"), sin_table(pair[1], "sin");
    for (const Tensor* table : {&cos_table, &sin_table})
      table->require(2, 1, HUNYUAN_F32).require_shape({tokens, q.shape[3]}).require_beside(q);
    cos = static_cast<const float*>(cos_table.data), sin = static_cast<const float*>(sin_table.data);
    cos_stride = cos_table.stride[0], sin_stride = sin_table.stride[0];
  }
};

// q, k and their outputs [B, S, H, D], any strides; an output may be its input. norms: (q_norm, k_norm, text_q_norm,
// text_k_norm), None where absent; rope: (cos, sin) or None.
void qk_norm_rope(py::handle q_, py::handle k_, py::handle q_out_, py::handle k_out_, py::tuple norms, py::object rope,
                  int64_t text_tokens, float eps, int threads) {
  const Tensor in[2] = {{q_, "q"}, {k_, "k"}}, out[2] = {{q_out_, "q_out"}, {k_out_, "k_out"}};
  hunyuan_qk_norm_rope_args args{};
  const Tensor& q = in[0];
  for (int i = 0; i < 2; ++i) {
    in[i].require(4, 1, q.dtype).require_shape({q.shape[0], q.shape[1], q.shape[2], q.shape[3]});
    out[i].require(4, 1, q.dtype).require_shape({q.shape[0], q.shape[1], q.shape[2], q.shape[3]});
    args.in[i] = in[i].data, args.out[i] = out[i].data;
    args.in_batch_stride[i] = in[i].stride[0], args.in_token_stride[i] = in[i].stride[1];
    args.in_head_stride[i] = in[i].stride[2];
    args.out_batch_stride[i] = out[i].stride[0], args.out_token_stride[i] = out[i].stride[1];
    args.out_head_stride[i] = out[i].stride[2];
  }
  args.norm_dtype = HUNYUAN_OTHER;
  for (int i = 0; i < 2; ++i) {
    args.norm[i] = vector_data(norms[i], "norm weight", q.shape[3], q, args.norm_dtype);
    args.text_norm[i] = vector_data(norms[2 + i], "text norm weight", q.shape[3], q, args.norm_dtype);
  }
  args.batch = q.shape[0], args.tokens = q.shape[1], args.heads = q.shape[2], args.head_dim = q.shape[3];
  args.text_tokens = text_tokens, args.eps = eps, args.dtype = q.dtype;
  const RopeTables tables(rope, args.tokens - text_tokens, q);
  args.cos = tables.cos, args.sin = tables.sin;
  args.cos_stride = tables.cos_stride, args.sin_stride = tables.sin_stride;
  run(hunyuan_qk_norm_rope, args, target_of({&in[0], &in[1], &out[0], &out[1]}, threads), 2 * q.count());
}

// ---- On the device ----

// Strides of a tensor [batch, tokens, heads, head_dim] for the kernels; that of a single element is never used.
void strides_of(const Tensor& tensor, int64_t (&stride)[3]) {
  for (int i = 0; i < 3; ++i) stride[i] = tensor.shape[i] == 1 ? 0 : tensor.stride[i];
}

// What both kernels read: q, k, v, out of bf16; kv_len: [batch] int32 or None; block_mask: None or (row_starts,
// key_blocks, query_tile, key_tile), int32 tensors.
hunyuan_attention_args attention_args(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                                      py::handle kv_len_, py::handle block_mask, float scale) {
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
  if (!block_mask.is_none()) {
    const auto mask = py::reinterpret_borrow<py::tuple>(block_mask);
    const Tensor row_starts(mask[0], "row_starts"), key_blocks(mask[1], "key_blocks");
    args.query_tile = mask[2].cast<int64_t>(), args.key_tile = mask[3].cast<int64_t>();
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
void attention(py::handle q_, py::handle k_, py::handle v_, py::handle out_, py::handle lse_, py::handle kv_len,
               py::handle block_mask, float scale) {
  const Tensor q(q_, "q"), k(k_, "k"), v(v_, "v"), out(out_, "out"), lse(lse_, "lse");
  hunyuan_attention_args args = attention_args(q, k, v, out, kv_len, block_mask, scale);
  lse.require(3, 3, HUNYUAN_F32).require_shape({args.batch, args.heads, args.queries});
  args.lse = static_cast<float*>(lse.data);
  run(hunyuan_attention, args, target_of({&q, &k, &v, &out, &lse}, 1), q.count());
}

// q, k as projected: norms and rope as in qk_norm_rope. workspace: attention_fp8_workspace bytes.
void attention_fp8(py::handle q_, py::handle k_, py::handle v_, py::handle out_, py::tuple norms, py::object rope,
                   int64_t text_tokens, float eps, py::handle kv_len, py::handle block_mask, float scale,
                   py::handle workspace_) {
  const Tensor q(q_, "q"), k(k_, "k"), v(v_, "v"), out(out_, "out"), workspace(workspace_, "workspace");
  const hunyuan_attention_args args = attention_args(q, k, v, out, kv_len, block_mask, scale);
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
int64_t attention_fp8_workspace(int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t head_dim) {
  hunyuan_attention_args args{};
  args.batch = batch, args.queries = queries, args.keys = keys, args.heads = heads, args.head_dim = head_dim;
  return hunyuan_attention_fp8_workspace(&args);
}

// ---- On the CPU ----

// Data of an int32 vector on the CPU.
const int32_t* int32_data(const Tensor& vector) {
  if (vector.dims != 1 || vector.dtype != HUNYUAN_I32 || !vector.dense(1) || vector.device >= 0)
    throw py::type_error(vector.text() + ": a contiguous int32 vector on the CPU is needed");
  return static_cast<const int32_t*>(vector.data);
}

// The operands that forward and backward pass share. norms, rope: as qk_norm_rope takes them; kv_len: a list or None.
void set_operands(hunyuan_rope_attention_args& args, const Tensor (&in)[4], const py::tuple& norms,
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
float* floats(py::handle object, const char* name, std::initializer_list<int64_t> shape, const Tensor& x) {
  if (object.is_none()) return nullptr;
  const Tensor tensor(object, name);
  const int dims = static_cast<int>(shape.size());
  tensor.require(dims, dims, HUNYUAN_F32).require_shape(shape).require_beside(x);
  return static_cast<float*>(tensor.data);
}

// block_mask: (row_starts, key_blocks, query_tile, key_tile) or None; lse: [batch, heads, tokens] float32, or None.
void rope_attention(py::handle q_, py::handle k_, py::handle v_, py::handle out_, py::tuple norms, py::object rope,
                    std::optional<std::vector<int64_t>> kv_len, py::object block_mask, int64_t text_tokens, float eps,
                    float scale, int unit, int threads, py::object lse) {
  const Tensor in[4] = {{q_, "q"}, {k_, "k"}, {v_, "v"}, {out_, "out"}};
  hunyuan_rope_attention_args args{};
  args.text_tokens = text_tokens, args.eps = eps, args.scale = scale;
  args.unit = static_cast<hunyuan_attention_unit>(unit);
  set_operands(args, in, norms, rope, kv_len);
  args.lse = floats(lse, "lse", {args.batch, args.heads, args.tokens}, in[0]);
  if (!block_mask.is_none()) {
    const py::tuple mask = block_mask;
    const Tensor row_starts(mask[0], "row_starts"), key_blocks(mask[1], "key_blocks");
    args.row_starts = int32_data(row_starts), args.key_blocks = int32_data(key_blocks);
    args.mask_rows = row_starts.shape[0] - 1, args.mask_pairs = key_blocks.shape[0];
    args.query_tile = mask[2].cast<int64_t>(), args.key_tile = mask[3].cast<int64_t>();
  }
  run(hunyuan_rope_attention, args, target_of({&in[0], &in[1], &in[2], &in[3]}, threads), 2 * in[0].count());
}

// forward: (q, k, v, out, lse); grads: of q, k and v, with equal strides; grad_norms: float32, None where the norm is.
void rope_attention_backward(py::tuple forward, py::handle grad_out_, py::tuple grads, py::tuple grad_norms,
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

}  // namespace

void bind_attention(py::module_& module) {
  module.def("qk_norm_rope", &qk_norm_rope, py::arg("q"), py::arg("k"), py::arg("q_out"), py::arg("k_out"),
             py::arg("norms"), py::arg("rope"), py::arg("text_tokens"), py::arg("eps"), py::arg("threads"));
  module.def("attention", &attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("out"), py::arg("lse"),
             py::arg("kv_len"), py::arg("block_mask"), py::arg("scale"));
  module.def("attention_fp8", &attention_fp8, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("out"),
             py::arg("norms"), py::arg("rope"), py::arg("text_tokens"), py::arg("eps"), py::arg("kv_len"),
             py::arg("block_mask"), py::arg("scale"), py::arg("workspace"));
  module.def("attention_fp8_workspace", &attention_fp8_workspace, py::arg("batch"), py::arg("queries"), py::arg("keys"),
             py::arg("heads"), py::arg("head_dim"));
  module.def(
      "has_attention_unit",
      [](int unit) { return hunyuan_has_attention_unit(static_cast<hunyuan_attention_unit>(unit)) != 0; },
      py::arg("unit"));
  module.def("rope_attention", &rope_attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("out"),
             py::arg("norms"), py::arg("rope"), py::arg("kv_len"), py::arg("block_mask"), py::arg("text_tokens"),
             py::arg("eps"), py::arg("scale"), py::arg("unit"), py::arg("threads"), py::arg("lse") = py::none());
  module.def("rope_attention_backward", &rope_attention_backward, py::arg("forward"), py::arg("grad_out"),
             py::arg("grads"), py::arg("grad_norms"), py::arg("norms"), py::arg("rope"), py::arg("kv_len"),
             py::arg("text_tokens"), py::arg("eps"), py::arg("scale"), py::arg("unit"), py::arg("threads"));
}

}  // namespace hunyuan::binding
