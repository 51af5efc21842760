// The template op.
#include "hunyuan/template.h"

#include "bindings/tensor.h"

namespace hunyuan::binding {
namespace {

void template_scale(py::handle x_, float factor, py::handle out_, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  x.require(1, 1, x.dtype);
  out.require(1, 1, x.dtype).require_shape({x.shape[0]});
  hunyuan_template_scale_args args{};
  args.x = x.data, args.out = out.data, args.count = x.count(), args.factor = factor, args.dtype = x.dtype;
  run(hunyuan_template_scale, args, target_of({&x, &out}, threads), x.count());
}

}  // namespace

void bind_template(py::module_& module) {
  module.def("template_scale", &template_scale, py::arg("x"), py::arg("factor"), py::arg("out"), py::arg("threads"));
}

}  // namespace hunyuan::binding
