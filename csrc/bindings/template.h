// The template op. Included by bindings.cpp alone.
#pragma once

#include "bindings/tensor.h"

namespace hunyuan::binding {

inline void template_scale(py::handle x_, float factor, py::handle out_, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  x.require(1, 1, x.dtype);
  out.require(1, 1, x.dtype).require_shape({x.shape[0]});
  hunyuan_template_scale_args args{};
  args.x = x.data, args.out = out.data, args.count = x.count(), args.factor = factor, args.dtype = x.dtype;
  run(hunyuan_template_scale, args, target_of({&x, &out}, threads), x.count());
}

}  // namespace hunyuan::binding
