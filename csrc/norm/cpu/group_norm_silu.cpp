// GroupNorm + SiLU: partial statistics (mean first, then squares around it, both from L1) and the element pass.
#include "common/simd/simd.h"
#include "norm/norm.h"

namespace hunyuan::HUNYUAN_LEVEL {
namespace {

using Args = hunyuan_group_norm_silu_args;

template <class T>
void run_statistics(const T* x, int64_t count, Partial& part) {
  const float mean =
      sum_terms(count, [&](int64_t i, auto piece) { return load(x + i, piece); }) / static_cast<float>(count);
  const Vec center = set(mean);
  const float squares = sum_terms(count, [&](int64_t i, auto piece) {
    const Vec distance = load(x + i, piece) - center;
    return distance * distance;
  });
  part = {static_cast<double>(count), mean, squares};
}

// out[c] = the sum over cells of term(element pointer, c, piece): channels outside, so that sums stay in registers;
// cells in four running sums, so that additions overlap.
template <class T, class Term>
void sum_channels(const T* x, int64_t cells, int64_t channels, float* out, Term term) {
  for_each_vec(channels, [&](int64_t c, auto piece) {
    Vec sums[4] = {set(0.0f), set(0.0f), set(0.0f), set(0.0f)};
    const T* at = x + c;
    int64_t cell = 0;
    for (; cell + 4 <= cells; cell += 4)
      for (int k = 0; k < 4; ++k, at += channels) sums[k] = sums[k] + term(at, c, piece);
    for (; cell < cells; ++cell, at += channels) sums[0] = sums[0] + term(at, c, piece);
    store(out + c, (sums[0] + sums[1]) + (sums[2] + sums[3]), piece);
  });
}

template <class T>
void cell_statistics(const T* x, int64_t cells, int64_t channels, int64_t groups, float* scratch, Partial* parts) {
  float *sums = scratch, *centers = scratch + channels;
  const int64_t width = channels / groups;
  const double count = static_cast<double>(cells) * width;
  sum_channels(x, cells, channels, sums, [](const T* p, int64_t, auto piece) { return load(p, piece); });
  for (int64_t g = 0; g < groups; ++g) {
    double total = 0;
    for (int64_t c = g * width; c < (g + 1) * width; ++c) total += sums[c];
    const float mean = static_cast<float>(total / count);
    for (int64_t c = g * width; c < (g + 1) * width; ++c) centers[c] = mean;
    parts[g] = {count, mean, 0};
  }
  sum_channels(x, cells, channels, sums, [&](const T* p, int64_t c, auto piece) {
    const Vec distance = load(p, piece) - load(static_cast<const float*>(centers) + c, piece);
    return distance * distance;
  });
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t c = g * width; c < (g + 1) * width; ++c) parts[g].squares += sums[c];
}

template <class T>
inline Vec silu(Vec z) {
  return over_one_plus<T>(z, exp_as<T>(set(0.0f) - z));
}

template <class T>
void transform_row(const T* x, T* out, int64_t count, Vec mean, Vec scale, Vec shift, bool with_silu) {
  for_each_vec(count, [&](int64_t i, auto piece) {
    const Vec z = fma(load(x + i, piece) - mean, scale, shift);
    store(out + i, with_silu ? silu<T>(z) : z, piece);
  });
}

template <class T>
void transform_cells(const T* x, T* out, int64_t cells, int64_t channels, const float* mean, const float* scale,
                     const float* shift, bool with_silu) {
  for (int64_t cell = 0; cell < cells; ++cell, x += channels, out += channels)
    for_each_vec(channels, [&](int64_t c, auto piece) {
      const Vec z = fma(load(x + c, piece) - load(mean + c, piece), load(scale + c, piece), load(shift + c, piece));
      store(out + c, with_silu ? silu<T>(z) : z, piece);
    });
}

}  // namespace

void group_norm_run(const Args& args, int64_t start, int64_t count, Partial& part) {
  if (args.dtype == HUNYUAN_F32) return run_statistics(static_cast<const float*>(args.x) + start, count, part);
  run_statistics(static_cast<const bf16*>(args.x) + start, count, part);
}

void group_norm_cells(const Args& args, int64_t start, int64_t cells, float* scratch, Partial* parts) {
  const int64_t offset = start * args.channels;
  if (args.dtype == HUNYUAN_F32)
    return cell_statistics(static_cast<const float*>(args.x) + offset, cells, args.channels, args.groups, scratch,
                           parts);
  cell_statistics(static_cast<const bf16*>(args.x) + offset, cells, args.channels, args.groups, scratch, parts);
}

void norm_silu_row(const Args& args, int64_t start, int64_t count, float mean, float scale, float shift, void* out) {
  if (args.dtype == HUNYUAN_F32)
    return transform_row(static_cast<const float*>(args.x) + start, static_cast<float*>(out), count, set(mean),
                         set(scale), set(shift), args.silu);
  transform_row(static_cast<const bf16*>(args.x) + start, static_cast<bf16*>(out), count, set(mean), set(scale),
                set(shift), args.silu);
}

void norm_silu_cells(const Args& args, int64_t start, int64_t cells, const float* mean, const float* scale,
                     const float* shift, void* out) {
  const int64_t offset = start * args.channels;
  if (args.dtype == HUNYUAN_F32)
    return transform_cells(static_cast<const float*>(args.x) + offset, static_cast<float*>(out), cells, args.channels,
                           mean, scale, shift, args.silu);
  transform_cells(static_cast<const bf16*>(args.x) + offset, static_cast<bf16*>(out), cells, args.channels, mean, scale,
                  shift, args.silu);
}

}  // namespace hunyuan::HUNYUAN_LEVEL
