// GroupNorm + SiLU on channels-last volumes, written into the replicate-padded buffer of the next convolution.
// Bound by memory: two reads and one write, or one read when the convolution before left its moments.
//   1. statistics_kernel  chunks of positions -> moments of every group (skipped when args.moments is given)
//   2. coefficients_kernel  moments -> mean, scale, shift of every channel; merged in a fixed order, in float64
//   3. apply_kernel  (x - mean) * scale + shift, SiLU, every copy of the padding; rows in reverse order, so that what
//      pass 1 read last is still in L2
#include "common/cuda/cuda.cuh"
#include "common/cuda/launch.cuh"
#include "common/host/moments.h"
#include "common/host/replicate_pad.h"
#include "norm/norm.h"

namespace hunyuan {
namespace {

using namespace device;
using Args = hunyuan_group_norm_silu_args;

constexpr int kThreads = 256;
constexpr int kUnroll = 4;       // independent 16-byte loads in flight
constexpr int kApplyUnroll = 2;  // the same in the last pass, whose coefficients take the registers
constexpr int kRounds = 8;       // rounds of kUnroll positions between two updates of the running mean

// The threads of a block as slots x packs: a thread keeps its channels and walks over positions.
struct Lane {
  int packs, slots, slot, pack;
  __device__ Lane(int64_t channels, int count)
      : packs(static_cast<int>(channels) / count),
        slots(kThreads / packs),
        slot(threadIdx.x / packs),
        pack(threadIdx.x % packs) {}
};

// Running mean and squared distances of kCount channels. Sums are taken about the running mean, so a mean that is large
// against the spread costs no digits.
template <int kCount>
struct Running {
  float count = 0.0f, mean[kCount], squares[kCount];

  __device__ void fold(float added, const float (&sum)[kCount], const float (&sum_of_squares)[kCount]) {
    const float total = count + added, share = added / total;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const float delta = sum[e] / added;
      squares[e] += sum_of_squares[e] - sum[e] * delta + delta * delta * count * share;
      mean[e] += delta * share;
    }
    count = total;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) statistics_kernel(const Args args, ChunkPlan plan, Moments* parts) {
  constexpr int kCount = Pack16<T>::count;
  using P = Pack16<T>;
  __shared__ float means[kThreads * kCount], squares[kThreads * kCount], counts[kThreads];
  const Lane lane(args.channels, kCount);
  const int64_t b = blockIdx.x / plan.chunks, chunk = blockIdx.x % plan.chunks;
  const int64_t first = chunk * plan.positions_per_chunk, end = first + plan.positions_per_chunk;
  const int64_t last = end < plan.positions ? end : plan.positions;
  const P* source = static_cast<const P*>(args.x) + b * plan.positions * lane.packs + lane.pack;

  if (lane.slot < lane.slots) {
    Running<kCount> running;
    int64_t p = first + lane.slot;
    if (p < last) {
      const P pivot = source[p * lane.packs];
#pragma unroll
      for (int e = 0; e < kCount; ++e) running.mean[e] = to_float(pivot.element[e]), running.squares[e] = 0.0f;
    } else {
#pragma unroll
      for (int e = 0; e < kCount; ++e) running.mean[e] = running.squares[e] = 0.0f;
    }
    while (p < last) {
      float sum[kCount] = {}, sum_of_squares[kCount] = {};
      int added = 0;
      for (int round = 0; round < kRounds && p < last; ++round, p += kUnroll * lane.slots) {
        P pack[kUnroll];
#pragma unroll
        for (int k = 0; k < kUnroll; ++k)
          if (p + k * lane.slots < last) pack[k] = source[(p + k * lane.slots) * lane.packs];
#pragma unroll
        for (int k = 0; k < kUnroll; ++k) {
          if (p + k * lane.slots >= last) break;
          ++added;
#pragma unroll
          for (int e = 0; e < kCount; ++e) {
            const float distance = to_float(pack[k].element[e]) - running.mean[e];
            sum[e] += distance;
            sum_of_squares[e] = fmaf(distance, distance, sum_of_squares[e]);
          }
        }
      }
      running.fold(static_cast<float>(added), sum, sum_of_squares);
    }
    if (lane.pack == 0) counts[lane.slot] = running.count;
    const int start = lane.slot * static_cast<int>(args.channels) + lane.pack * kCount;
#pragma unroll
    for (int e = 0; e < kCount; ++e) means[start + e] = running.mean[e], squares[start + e] = running.squares[e];
  }
  __syncthreads();

  const int width = static_cast<int>(args.channels / args.groups);
  for (int g = threadIdx.x; g < args.groups; g += kThreads) {
    Moments moments{0.0f, 0.0f, 0.0f};
    for (int slot = 0; slot < lane.slots; ++slot)
      for (int c = g * width; c < (g + 1) * width; ++c) {
        const int i = slot * static_cast<int>(args.channels) + c;
        moments.add(Moments{counts[slot], means[i], squares[i]});
      }
    parts[blockIdx.x * args.groups + g] = moments;
  }
}

__device__ float affine(const void* values, hunyuan_dtype dtype, int64_t i, float absent) {
  if (!values) return absent;
  if (dtype == HUNYUAN_F32) return static_cast<const float*>(values)[i];
  if (dtype == HUNYUAN_F16) return to_float(static_cast<const __half*>(values)[i]);
  return to_float(static_cast<const __nv_bfloat16*>(values)[i]);
}

// One block a group of a sample. coefficients: [3][batch, channels] mean, scale, shift.
__global__ void __launch_bounds__(kThreads)
    coefficients_kernel(const Args args, const Moments* parts, int64_t chunks, float* coefficients) {
  __shared__ MomentsOf<double> merged[kThreads];
  const int64_t b = blockIdx.x / args.groups, g = blockIdx.x % args.groups;
  MomentsOf<double> moments{0.0, 0.0, 0.0};
  for (int64_t i = threadIdx.x; i < chunks; i += kThreads) moments.add(parts[(b * chunks + i) * args.groups + g]);
  merged[threadIdx.x] = moments;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) merged[threadIdx.x].add(merged[threadIdx.x + half]);
  }
  __syncthreads();
  const double inverse = 1.0 / sqrt(merged[0].squares / merged[0].count + static_cast<double>(args.eps));
  const int64_t width = args.channels / args.groups, plane = args.batch * args.channels;
  for (int64_t c = g * width + threadIdx.x; c < (g + 1) * width; c += kThreads) {
    float* out = coefficients + b * args.channels + c;
    out[0] = static_cast<float>(merged[0].mean);
    out[plane] = static_cast<float>(inverse * affine(args.weight, args.affine_dtype, c, 1.0f));
    out[2 * plane] = affine(args.bias, args.affine_dtype, c, 0.0f);
  }
}

// z * sigmoid(z); the fast forms have errors near 2^-21, invisible in 16-bit results.
template <class T>
__device__ float silu(float z) {
  if constexpr (sizeof(T) == 4) return z / (1.0f + expf(-z));
  return __fdividef(z, 1.0f + __expf(-z));
}

// One block `rows_per_block` rows of one frame.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    apply_kernel(const Args args, const float* coefficients, int64_t rows_per_block, int64_t blocks_per_frame) {
  constexpr int kCount = Pack16<T>::count;
  using P = Pack16<T>;
  const Lane lane(args.channels, kCount);
  if (lane.slot >= lane.slots) return;
  const int64_t index = gridDim.x - 1 - blockIdx.x;
  const int64_t frame = index / blocks_per_frame % args.frames, b = index / blocks_per_frame / args.frames;
  const int64_t first_row = index % blocks_per_frame * rows_per_block;
  const int64_t end_row = first_row + rows_per_block < args.rows ? first_row + rows_per_block : args.rows;

  // For 16-bit x the mean is folded into the shift, which saves registers: the rounding this adds is 2^-13 of the one
  // that x itself carries.
  constexpr bool kFolded = sizeof(T) == 2;
  float mean[kCount], scale[kCount], shift[kCount];
  const float* channel = coefficients + b * args.channels + lane.pack * kCount;
  const int64_t plane = args.batch * args.channels;
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    mean[e] = channel[e], scale[e] = channel[plane + e], shift[e] = channel[2 * plane + e];
    if constexpr (kFolded) shift[e] = fmaf(-mean[e], scale[e], shift[e]);
  }

  const int columns = static_cast<int>(args.columns), pad = static_cast<int>(args.pad_columns), step = lane.slots;
  const int64_t out_row = (args.columns + 2 * args.pad_columns) * lane.packs;  // in packs
  const int64_t out_frame = (args.rows + 2 * args.pad_rows) * out_row;
  const Copies frames = padded_copies(frame, args.frames, args.pad_frames, 0);
  P* out_frames =
      static_cast<P*>(args.out) + (b * (args.frames + args.pad_frames) + frames.first) * out_frame + lane.pack;
  const int frame_copies = static_cast<int>(frames.last - frames.first);
  for (int64_t row = first_row; row < end_row; ++row) {
    const Copies rows = padded_copies(row, args.rows, args.pad_rows, args.pad_rows);
    P* out = out_frames + rows.first * out_row;
    const int row_copies = static_cast<int>(rows.last - rows.first);
    const P* source = static_cast<const P*>(args.x) +
                      ((b * args.frames + frame) * args.rows + row) * args.columns * lane.packs + lane.pack;
    for (int start = lane.slot; start < columns; start += kApplyUnroll * step) {
      P pack[kApplyUnroll];
#pragma unroll
      for (int k = 0; k < kApplyUnroll; ++k)
        if (start + k * step < columns) pack[k] = source[(start + k * step) * lane.packs];
#pragma unroll
      for (int k = 0; k < kApplyUnroll; ++k) {
        const int column = start + k * step;
        if (column >= columns) break;
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
          const float x = to_float(pack[k].element[e]), z = fmaf(kFolded ? x : x - mean[e], scale[e], shift[e]);
          pack[k].element[e] = from_float<T>(args.silu ? silu<T>(z) : z);
        }
        const int left = column == 0 ? 0 : column + pad, right = column + pad + (column == columns - 1 ? pad : 0);
        for (int f = 0; f <= frame_copies; ++f)
          for (int r = 0; r <= row_copies; ++r)
            for (int c = left; c <= right; ++c) out[f * out_frame + r * out_row + c * lane.packs] = pack[k];
      }
    }
  }
}

template <class T>
int launch_dtype(const Args& args, cudaStream_t stream) {
  constexpr int64_t kCount = Pack16<T>::count;
  if (args.channels % kCount != 0 || args.channels > kThreads * kCount)
    return fail(HUNYUAN_BAD_ARGUMENT,
                "group_norm_silu: the CUDA kernel takes multiples of %lld up to %lld channels, not %lld",
                static_cast<long long>(kCount), static_cast<long long>(kThreads * kCount),
                static_cast<long long>(args.channels));
  if (!aligned16<T>(args.x, 0) || !aligned16<T>(args.out, 0))
    return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: x and out must start at multiples of 16 bytes");
  const ChunkPlan plan = chunk_plan(args.frames * args.rows * args.columns, args.channels);
  float* coefficients = static_cast<float*>(args.workspace);
  const auto* moments = reinterpret_cast<const Moments*>(args.moments);
  int64_t chunks = args.moment_chunks;
  if (!moments) {
    auto* parts = reinterpret_cast<Moments*>(coefficients + 3 * args.batch * args.channels);
    const LaunchShape shape{args.batch * plan.chunks, kThreads};
    if (const int status = launch("group_norm_silu", shape, stream, statistics_kernel<T>, args, plan, parts))
      return status;
    moments = parts;
    chunks = plan.chunks;
  }
  const LaunchShape groups{args.batch * args.groups, kThreads};
  if (const int status =
          launch("group_norm_silu", groups, stream, coefficients_kernel, args, moments, chunks, coefficients))
    return status;
  if (args.columns * args.channels > 0x7fffffff)
    return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: rows of %lld columns are too long for the CUDA kernel",
                static_cast<long long>(args.columns));
  const int64_t wanted = 65536 / (args.columns * args.channels), rows_per_block = wanted < 1 ? 1 : wanted;
  const int64_t blocks_per_frame = (args.rows + rows_per_block - 1) / rows_per_block;
  const LaunchShape shape{args.batch * args.frames * blocks_per_frame, kThreads};
  return launch("group_norm_silu", shape, stream, apply_kernel<T>, args, static_cast<const float*>(coefficients),
                rows_per_block, blocks_per_frame);
}

}  // namespace

int group_norm_silu_cuda(const Args& args, hunyuan_target target) {
  if (!args.channels_last)
    return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: the CUDA kernel takes channels-last volumes only");
  if (!args.workspace) return fail(HUNYUAN_BAD_ARGUMENT, "group_norm_silu: the CUDA kernel needs a workspace");
  return for_dtype("group_norm_silu", args.dtype, target, [&args](auto element, cudaStream_t stream) {
    return launch_dtype<decltype(element)>(args, stream);
  });
}

}  // namespace hunyuan
