// The causal 3D convolution and its padding.
#include "hunyuan/conv3d.h"

#include "bindings/volume.h"

namespace hunyuan::binding {
namespace {

void pad_causal(py::handle x_, py::handle out_, Pad pad, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  const bool last = channels_last(x);
  require_padded(out, x, pad, last);
  hunyuan_pad_causal_args args{};
  args.x = x.data, args.out = out.data;
  args.planes = last ? x.shape[0] : x.shape[0] * x.shape[1];
  args.cell_bytes = last ? x.shape[1] * x.item_bytes : x.item_bytes;
  args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  run(hunyuan_pad_causal, args, target_of({&x, &out}, threads), x.count());
}

void pad_slab(py::handle x_, py::handle out_, Pad pad, int threads) {
  const Tensor x(x_, "x"), out(out_, "out");
  require_slab(out, x, pad);
  hunyuan_pad_causal_args args{};
  args.x = x.data, args.out = out.data;
  args.planes = 1, args.cell_bytes = x.shape[3] * x.item_bytes;
  args.frames = x.shape[0], args.rows = x.shape[1], args.columns = x.shape[2];
  args.pad_frames = pad[0], args.pad_rows = pad[1], args.pad_columns = pad[2];
  run(hunyuan_pad_causal, args, target_of({&x, &out}, threads), x.count());
}

using Triple = std::array<int64_t, 3>;  // frames, rows, columns

const Tensor& require_last(const Tensor& x, hunyuan_dtype dtype) {
  x.require(5, 0, dtype);
  if (!x.dense_as(kChannelsLast, 5)) throw py::value_error(x.text() + ": must be contiguous in channels_last_3d");
  return x;
}

// The convolution of x, padded already; all volumes and the weight channels-last. moments: float32
// [B, causal_conv3d_moment_chunks, groups, 3] or None.
hunyuan_causal_conv3d_args conv_args(const Tensor& x, const Tensor& weight, const Triple& stride) {
  hunyuan_causal_conv3d_args args{};
  args.x = x.data, args.weight = weight.data, args.batch = x.shape[0], args.channels = x.shape[1];
  args.out_channels = weight.shape[0], args.frames = x.shape[2], args.rows = x.shape[3], args.columns = x.shape[4];
  for (int i = 0; i < 3; ++i) args.kernel[i] = weight.shape[2 + i], args.stride[i] = stride[i];
  args.dtype = x.dtype;
  return args;
}

void causal_conv3d(py::handle x_, py::handle weight_, py::handle bias, py::handle residual_, py::handle out_,
                   py::handle moments_, int64_t groups, Triple stride) {
  const Tensor x(x_, "x"), weight(weight_, "weight"), out(out_, "out");
  require_last(x, x.dtype);
  require_last(weight, x.dtype)
      .require_shape({weight.shape[0], x.shape[1], weight.shape[2], weight.shape[3], weight.shape[4]});
  hunyuan_causal_conv3d_args args = conv_args(x, weight, stride);
  int64_t volume[3];
  for (int i = 0; i < 3; ++i) {
    if (stride[i] <= 0 || x.shape[2 + i] < weight.shape[2 + i])
      throw py::value_error("x: is smaller than the kernel, or stride is not positive");
    volume[i] = (x.shape[2 + i] - weight.shape[2 + i]) / stride[i] + 1;
  }
  require_last(out, x.dtype).require_shape({x.shape[0], weight.shape[0], volume[0], volume[1], volume[2]});
  args.out = out.data;
  args.bias_dtype = HUNYUAN_OTHER;
  args.bias = vector_data(bias, "bias", weight.shape[0], x, args.bias_dtype);
  if (!residual_.is_none()) {
    const Tensor residual(residual_, "residual");
    require_last(residual, x.dtype)
        .require_shape({out.shape[0], out.shape[1], out.shape[2], out.shape[3], out.shape[4]})
        .require_beside(x);
    args.residual = residual.data;
  }
  const hunyuan_target target = target_of({&x, &weight, &out}, 1);
  if (!moments_.is_none()) {
    const Tensor moments(moments_, "moments");
    const int64_t chunks = hunyuan_causal_conv3d_moment_chunks(&args, target);
    moments.require(4, 4, HUNYUAN_F32).require_shape({x.shape[0], chunks, groups, 3}).require_beside(x);
    args.moments = static_cast<float*>(moments.data), args.groups = groups;
  }
  run(hunyuan_causal_conv3d, args, target, out.count());
}

int64_t causal_conv3d_moment_chunks(py::handle x_, py::handle weight_, Triple stride) {
  const Tensor x(x_, "x"), weight(weight_, "weight");
  x.require(5, 0, x.dtype);
  weight.require(5, 0, x.dtype);
  const hunyuan_causal_conv3d_args args = conv_args(x, weight, stride);
  return hunyuan_causal_conv3d_moment_chunks(&args, target_of({&x, &weight}, 1));
}

}  // namespace

void bind_conv3d(py::module_& module) {
  module.def("pad_causal", &pad_causal, py::arg("x"), py::arg("out"), py::arg("pad"), py::arg("threads"));
  module.def("pad_slab", &pad_slab, py::arg("x"), py::arg("out"), py::arg("pad"), py::arg("threads"));
  module.def("causal_conv3d", &causal_conv3d, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("residual"),
             py::arg("out"), py::arg("moments"), py::arg("groups"), py::arg("stride"));
  module.def("causal_conv3d_moment_chunks", &causal_conv3d_moment_chunks, py::arg("x"), py::arg("weight"),
             py::arg("stride"));
}

}  // namespace hunyuan::binding
