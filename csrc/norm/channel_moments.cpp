// channel_moments: argument checks, and the fixed pieces whose sums are added in order.
#include <algorithm>
#include <vector>

#include "common/host/isa.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "norm/norm.h"

namespace hunyuan {
namespace {

constexpr int64_t kChunk = 64;           // positions whose sums are float32
constexpr int64_t kBlock = 16 * kChunk;  // positions that one thread adds up in float64

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

const char* at(const hunyuan_channel_moments_args& args, int64_t position) {
  return static_cast<const char*>(args.x) + position * args.channels * (args.dtype == HUNYUAN_F32 ? 4 : 2);
}

// The mean of the first positions: near enough to that of all for squares of distances to keep their digits.
void choose_center(const hunyuan_channel_moments_args& args) {
  const auto kernel = HUNYUAN_PICK(channel_sums);
  const int64_t cells = std::min(args.positions, kChunk);
  const std::vector<float> zeros(args.channels, 0.0f);
  std::vector<float> sums(2 * args.channels);
  kernel(args.x, args.dtype, cells, args.channels, zeros.data(), sums.data());
  for (int64_t c = 0; c < args.channels; ++c) args.totals[c] = sums[c] / static_cast<float>(cells);
  std::fill(args.totals + args.channels, args.totals + 3 * args.channels, 0.0);
}

void add_block(const hunyuan_channel_moments_args& args, const std::vector<float>& center, int64_t begin, int64_t end,
               double* totals) {
  const auto kernel = HUNYUAN_PICK(channel_sums);
  std::vector<float> sums(2 * args.channels);
  for (int64_t start = begin; start < end; start += kChunk) {
    kernel(at(args, start), args.dtype, std::min(kChunk, end - start), args.channels, center.data(), sums.data());
    for (int64_t i = 0; i < 2 * args.channels; ++i) totals[i] += sums[i];
  }
}

void add(const hunyuan_channel_moments_args& args, int threads) {
  const std::vector<float> center(args.totals, args.totals + args.channels);
  const int64_t blocks = ceil_div(args.positions, kBlock), width = 2 * args.channels;
  std::vector<double> totals(blocks * width, 0.0);
  parallel_ranges(blocks, args.positions * args.channels, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      add_block(args, center, i * kBlock, std::min((i + 1) * kBlock, args.positions), &totals[i * width]);
  });
  for (int64_t i = 0; i < blocks; ++i)
    for (int64_t j = 0; j < width; ++j) args.totals[args.channels + j] += totals[i * width + j];
}

}  // namespace
}  // namespace hunyuan

extern "C" int hunyuan_channel_moments(const hunyuan_channel_moments_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->positions < 0 || args->channels < 0 || args->seen < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "channel_moments: sizes must not be negative");
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "channel_moments: has no CUDA kernel");
  if (args->dtype != HUNYUAN_F32 && args->dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "channel_moments: the CPU kernel takes float32 or bfloat16");
  if (args->positions * args->channels == 0) return HUNYUAN_OK;
  if (args->seen == 0) choose_center(*args);
  add(*args, target.threads);
  return HUNYUAN_OK;
}
