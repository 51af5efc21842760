// Replicate padding of a causal convolution: every cell is read once and written to all its copies. One block a row.
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"
#include "common/host/replicate_pad.h"
#include "conv3d/conv3d.h"

namespace hunyuan {
namespace {

constexpr int kThreads = 256;

// Unit: the largest type that divides a cell and the addresses. units: of a cell.
template <class Unit>
__global__ void __launch_bounds__(kThreads) pad_kernel(const hunyuan_pad_causal_args args, int64_t units) {
  const int64_t index = blockIdx.x, row = index % args.rows, frame = index / args.rows % args.frames;
  const int64_t plane = index / args.rows / args.frames;
  const int64_t row_units = (args.columns + 2 * args.pad_columns) * units;
  const int64_t frame_units = (args.rows + 2 * args.pad_rows) * row_units;
  const Copies frames = padded_copies(frame, args.frames, args.pad_frames, 0);
  const Copies rows = padded_copies(row, args.rows, args.pad_rows, args.pad_rows);
  const Unit* x = static_cast<const Unit*>(args.x) + index * args.columns * units;
  Unit* out = static_cast<Unit*>(args.out) + plane * (args.frames + args.pad_frames) * frame_units;
  for (int64_t i = threadIdx.x; i < args.columns * units; i += kThreads) {
    const int64_t column = units == 1 ? i : i / units, unit = i - column * units;
    const Unit value = x[i];
    const Copies columns = padded_copies(column, args.columns, args.pad_columns, args.pad_columns);
    for (int64_t f = frames.first; f <= frames.last; ++f)
      for (int64_t r = rows.first; r <= rows.last; ++r)
        for (int64_t c = columns.first; c <= columns.last; ++c)
          out[f * frame_units + r * row_units + c * units + unit] = value;
  }
}

template <class Unit>
int launch_unit(const hunyuan_pad_causal_args& args, cudaStream_t stream) {
  const LaunchShape shape{args.planes * args.frames * args.rows, kThreads};
  return launch("pad_causal", shape, stream, pad_kernel<Unit>, args,
                args.cell_bytes / static_cast<int64_t>(sizeof(Unit)));
}

}  // namespace

int pad_causal_cuda(const hunyuan_pad_causal_args& args, hunyuan_target target) {
  const DeviceGuard guard(target.device);
  HUNYUAN_CUDA_CHECK(guard.error);
  const auto stream = static_cast<cudaStream_t>(target.stream);
  const auto divides = [&](uintptr_t size) {
    return args.cell_bytes % static_cast<int64_t>(size) == 0 && reinterpret_cast<uintptr_t>(args.x) % size == 0 &&
           reinterpret_cast<uintptr_t>(args.out) % size == 0;
  };
  if (divides(16)) return launch_unit<uint4>(args, stream);
  if (divides(4)) return launch_unit<uint32_t>(args, stream);
  if (divides(2)) return launch_unit<uint16_t>(args, stream);
  return launch_unit<uint8_t>(args, stream);
}

}  // namespace hunyuan
