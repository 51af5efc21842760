// The rotary tables of the attention functions. Included by bindings.cpp alone.
#pragma once

#include "bindings/tensor.h"

namespace hunyuan::binding {

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

}  // namespace hunyuan::binding
