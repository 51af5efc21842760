// group_norm_silu: argument checks, the statistics' fixed chunks and their merge, and the padded write.
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/host/affine.h"
#include "common/host/isa.h"
#include "common/host/parallel.h"
#include "common/host/replicate_pad.h"
#include "common/host/status.h"
#include "norm/norm.h"

namespace hunyuan {
namespace {

using Args = hunyuan_group_norm_silu_args;

// Elements of one partial result: small enough for the caches (it is read twice), and independent of the thread count.
constexpr int64_t kChunk = 16384;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t positions(const Args& args) { return args.frames * args.rows * args.columns; }

// Of partial results `stride` apart: the mean, and then the squares around it, in float64 and in order.
struct Moments {
  double mean = 0, variance = 0;

  Moments(const Partial* parts, int64_t chunks, int64_t stride) {
    double count = 0;
    for (int64_t i = 0; i < chunks; ++i) count += parts[i * stride].count;
    for (int64_t i = 0; i < chunks; ++i) mean += parts[i * stride].mean * (parts[i * stride].count / count);
    for (int64_t i = 0; i < chunks; ++i) {
      const Partial& part = parts[i * stride];
      const double distance = part.mean - mean;
      variance += part.squares + distance * distance * part.count;
    }
    variance /= count;
  }
};

// Partial results of an NCDHW tensor, [batch * groups][chunks]: a group is one contiguous run.
std::vector<Partial> channels_first_partials(const Args& args, int threads, int64_t& chunks) {
  const int64_t run = args.channels / args.groups * positions(args), runs = args.batch * args.groups;
  chunks = ceil_div(run, kChunk);
  std::vector<Partial> parts(runs * chunks);
  const auto kernel = HUNYUAN_PICK(group_norm_run);
  parallel_ranges(runs * chunks, runs * run, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t start = i % chunks * kChunk;
      kernel(args, i / chunks * run + start, start + kChunk < run ? kChunk : run - start, parts[i]);
    }
  });
  return parts;
}

// Partial results of a channels-last tensor, [batch][chunks][groups]: a chunk is a run of positions, all channels.
std::vector<Partial> channels_last_partials(const Args& args, int threads, int64_t& chunks) {
  const int64_t chunk = std::max<int64_t>(16, kChunk / args.channels), count = positions(args);
  chunks = ceil_div(count, chunk);
  std::vector<Partial> parts(args.batch * chunks * args.groups);
  const auto kernel = HUNYUAN_PICK(group_norm_cells);
  parallel_ranges(args.batch * chunks, args.batch * count * args.channels, threads, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(2 * args.channels);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t start = i % chunks * chunk;
      kernel(args, i / chunks * count + start, start + chunk < count ? chunk : count - start, scratch.data(),
             &parts[i * args.groups]);
    }
  });
  return parts;
}

// y = (x - mean) * scale + shift, per sample and channel.
struct Normalize {
  std::vector<float> mean, scale, shift;
};

Normalize known_normalization(const Args& args) {
  Normalize out;
  for (int64_t b = 0; b < args.batch; ++b) {
    const float* from = args.affine + 3 * b * args.channels;
    for (auto* vector : {&out.mean, &out.scale, &out.shift}) {
      vector->insert(vector->end(), from, from + args.channels);
      from += args.channels;
    }
  }
  return out;
}

Normalize normalization(const Args& args, int threads) {
  if (args.affine) return known_normalization(args);
  int64_t chunks;
  const auto parts = args.channels_last ? channels_last_partials(args, threads, chunks)
                                        : channels_first_partials(args, threads, chunks);
  const auto weight = to_floats(args.weight, args.affine_dtype, args.channels, 1.0f);
  const auto bias = to_floats(args.bias, args.affine_dtype, args.channels, 0.0f);
  const int64_t width = args.channels / args.groups;
  Normalize out;
  for (auto* vector : {&out.mean, &out.scale, &out.shift}) vector->resize(args.batch * args.channels);
  for (int64_t b = 0; b < args.batch; ++b)
    for (int64_t g = 0; g < args.groups; ++g) {
      const Moments moments = args.channels_last ? Moments(&parts[b * chunks * args.groups + g], chunks, args.groups)
                                                 : Moments(&parts[(b * args.groups + g) * chunks], chunks, 1);
      const double inverse = 1.0 / std::sqrt(moments.variance + args.eps);
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        out.mean[b * args.channels + c] = static_cast<float>(moments.mean);
        out.scale[b * args.channels + c] = static_cast<float>(inverse * weight[c]);
        out.shift[b * args.channels + c] = bias[c];
      }
    }
  return out;
}

// The volume in cells; without spatial padding several rows are one long row.
PaddedVolume volume(const Args& args) {
  PaddedVolume out{};
  const int64_t size = args.dtype == HUNYUAN_F32 ? 4 : 2;
  out.out = args.out;
  out.planes = args.channels_last ? args.batch : args.batch * args.channels;
  out.cell_bytes = args.channels_last ? args.channels * size : size;
  out.frames = args.frames, out.rows = args.rows, out.columns = args.columns;
  out.pad_frames = args.pad_frames, out.pad_rows = args.pad_rows, out.pad_columns = args.pad_columns;
  if (!args.channels_last && args.pad_rows == 0 && args.pad_columns == 0) {
    out.columns *= out.rows;
    out.rows = 1;
  }
  return out;
}

void apply(const Args& args, const Normalize& normalize, int threads) {
  const PaddedVolume shape = volume(args);
  const ReplicatePad pad(shape);
  const auto row_kernel = HUNYUAN_PICK(norm_silu_row);
  const auto cells_kernel = HUNYUAN_PICK(norm_silu_cells);
  const int64_t elements = args.batch * args.channels * positions(args);
  parallel_ranges(pad.row_count(), elements, threads, [&](int64_t begin, int64_t end) {
    pad.put_rows(begin, end, [&](int64_t row, int64_t plane, char* out) {
      const int64_t first = plane * (args.channels_last ? args.channels : 1);
      const float *mean = &normalize.mean[first], *scale = &normalize.scale[first], *shift = &normalize.shift[first];
      if (args.channels_last)
        cells_kernel(args, row * shape.columns, shape.columns, mean, scale, shift, out);
      else
        row_kernel(args, row * shape.columns, shape.columns, *mean, *scale, *shift, out);
    });
  });
}

}  // namespace
}  // namespace hunyuan

extern "C" int64_t hunyuan_group_norm_silu_workspace(const hunyuan_group_norm_silu_args* args, hunyuan_target target) {
  return target.device >= 0 ? hunyuan::group_norm_silu_cuda_workspace(*args) : 0;
}

extern "C" int hunyuan_group_norm_silu(const hunyuan_group_norm_silu_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->batch < 0 || args->channels < 0 || args->frames < 0 || args->rows < 0 || args->columns < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: sizes must not be negative");
  if (args->pad_frames < 0 || args->pad_rows < 0 || args->pad_columns < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: pads must not be negative");
  if (args->groups <= 0 || args->channels % args->groups != 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: %lld channels do not divide into %lld groups",
                static_cast<long long>(args->channels), static_cast<long long>(args->groups));
  if (args->batch * args->channels * args->frames * args->rows * args->columns == 0) return HUNYUAN_OK;
  if (target.device >= 0 && args->affine)
    return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: the CUDA kernel takes no affine");
  if (target.device >= 0) return group_norm_silu_cuda(*args, target);
  if (args->dtype != HUNYUAN_F32 && args->dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "group_norm_silu: the CPU kernel takes float32 or bfloat16");
  apply(*args, normalization(*args, target.threads), target.threads);
  return HUNYUAN_OK;
}
