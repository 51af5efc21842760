// Attention on a GPU from C++: memory of cudaMalloc, a stream of its own, the result against a plain loop on the CPU.
#include <cuda_runtime.h>
#include <hunyuan_ext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t kTokens = 300, kHeads = 2, kDim = 128, kRow = kHeads * kDim, kSize = kTokens * kRow;
constexpr float kScale = 0.088388348f;  // 1 / sqrt(kDim)

void require(bool ok, const char* reason) {
  if (ok) return;
  std::fprintf(stderr, "%s\n", reason);
  std::exit(1);
}
void require(cudaError_t status) { require(status == cudaSuccess, cudaGetErrorString(status)); }

float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

std::vector<uint16_t> wave(float phase) {
  std::vector<uint16_t> out(kSize);
  for (int64_t i = 0; i < kSize; ++i) {
    const float value = std::sin(phase + 0.37f * static_cast<float>(i % 1009));
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    out[i] = static_cast<uint16_t>(bits >> 16);
  }
  return out;
}

uint16_t* on_device(const std::vector<uint16_t>& values, cudaStream_t stream) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, values.size() * 2));
  require(cudaMemcpyAsync(memory, values.data(), values.size() * 2, cudaMemcpyHostToDevice, stream));
  return static_cast<uint16_t*>(memory);
}

// The largest difference from a plain computation in double.
double error_of(const std::vector<uint16_t>& q, const std::vector<uint16_t>& k, const std::vector<uint16_t>& v,
                const std::vector<uint16_t>& out) {
  double largest = 0;
  for (int64_t head = 0; head < kHeads; ++head)
    for (int64_t i = 0; i < kTokens; ++i) {
      std::vector<double> sums(kDim, 0.0);
      double total = 0;
      for (int64_t j = 0; j < kTokens; ++j) {
        double score = 0;
        for (int64_t d = 0; d < kDim; ++d)
          score += double(from_bf16(q[i * kRow + head * kDim + d])) * from_bf16(k[j * kRow + head * kDim + d]);
        const double weight = std::exp(kScale * score);
        total += weight;
        for (int64_t d = 0; d < kDim; ++d) sums[d] += weight * from_bf16(v[j * kRow + head * kDim + d]);
      }
      for (int64_t d = 0; d < kDim; ++d)
        largest = std::fmax(largest, std::fabs(sums[d] / total - from_bf16(out[i * kRow + head * kDim + d])));
    }
  return largest;
}

}  // namespace

int main() {
  require(hunyuan_abi_matches(), "libhunyuan_kernels has another ABI than the headers: install both from one release");
  require(hunyuan_cuda_device_count() > 0, "needs a GPU and a library built with HUNYUAN_CUDA=ON");
  cudaStream_t stream;
  require(cudaStreamCreate(&stream));
  const std::vector<uint16_t> q = wave(0.0f), k = wave(1.0f), v = wave(2.0f);
  std::vector<uint16_t> out(kSize);
  hunyuan_attention_args args{};
  uint16_t* memory[4] = {on_device(q, stream), on_device(k, stream), on_device(v, stream), on_device(out, stream)};
  args.q = memory[0], args.k = memory[1], args.v = memory[2], args.out = memory[3];
  args.batch = 1, args.queries = args.keys = kTokens, args.heads = kHeads, args.head_dim = kDim;
  for (int64_t* stride : {args.q_stride, args.k_stride, args.v_stride, args.out_stride})
    stride[0] = kSize, stride[1] = kRow, stride[2] = kDim;
  args.scale = kScale, args.dtype = HUNYUAN_BF16;
  const hunyuan_target target{0, stream, 0};  // device 0; asynchronous on the stream
  require(hunyuan_attention(&args, target) == HUNYUAN_OK, hunyuan_last_error());
  require(cudaMemcpyAsync(out.data(), memory[3], kSize * 2, cudaMemcpyDeviceToHost, stream));
  require(cudaStreamSynchronize(stream));
  const double error = error_of(q, k, v, out);
  std::printf("largest error %.2g\n", error);
  for (uint16_t* block : memory) require(cudaFree(block));
  require(cudaStreamDestroy(stream));
  return error < 0.02 ? 0 : 1;
}
