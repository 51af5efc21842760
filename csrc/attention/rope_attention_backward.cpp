// Gradients of rope_attention on the CPU: checks, and the split of the work over threads. Parts of keys depend on the
// sizes alone and their sums are added in order: any thread count gives the same bits.
#include <algorithm>
#include <new>
#include <vector>

#include "attention/attention.h"
#include "attention/cpu/backward.h"
#include "attention/cpu/float_norms.h"
#include "common/host/parallel.h"
#include "common/host/status.h"
#include "common/host/workspace.h"

#if defined(HUNYUAN_AMX)
namespace hunyuan {
namespace attention::cpu {
namespace {

constexpr int64_t kGroupBytes = int64_t{64} << 20;  // of heads that are computed together
constexpr int64_t kWantedParts = 64;                // enough for most machines
constexpr int64_t kLeastBlocks = 8;                 // of keys in a part: each part is a pass over the queries' sums

int64_t ceil_div(int64_t value, int64_t step) { return (value + step - 1) / step; }

class BackwardCall {
 public:
  explicit BackwardCall(const hunyuan_rope_attention_backward_args& args)
      : args_(args), forward_(args.forward), norms_(args.forward, problem_.forward.weights) {
    problem_.args = &args;
    problem_.forward.args = &forward_;
    problem_.forward.depth = round_up(forward_.head_dim, 32);
    problem_.forward.value_stride = 0;
    problem_.forward.factor = exponent_factor(forward_.scale);
    heads_ = forward_.batch * forward_.heads;
    tokens_ = round_up(forward_.tokens, kPackedKeys);
    key_blocks_ = ceil_div(forward_.tokens, kBlockKeys);
    query_blocks_ = ceil_div(forward_.tokens, kBlockQueries);
    const int64_t parts =
        std::clamp(ceil_div(kWantedParts, heads_), int64_t{1}, std::max(key_blocks_ / kLeastBlocks, int64_t{1}));
    blocks_of_part_ = ceil_div(key_blocks_, parts);
    parts_ = ceil_div(key_blocks_, blocks_of_part_);
    norm_sums_.resize(heads_ * (key_blocks_ + query_blocks_));
  }

  void run(int threads) {
    const int64_t operand = round_up(tokens_, kBlockKeys) * problem_.forward.depth * 2,
                  vector = round_up(4 * tokens_, 64);
    const int64_t sums = query_blocks_ * kBlockQueries * problem_.forward.depth * 4;
    const int64_t head_bytes = 7 * operand + 2 * vector + parts_ * sums;
    const int64_t busy = ceil_div(2 * threads, parts_);
    const int64_t group = std::min(heads_, std::max({int64_t{1}, busy, kGroupBytes / head_bytes}));
    const Workspace memory(head_bytes * group);
    for (int64_t first = 0; first < heads_; first += group) {
      const int64_t count = std::min(group, heads_ - first), elements = count * forward_.tokens * forward_.head_dim;
      const auto packed = [&](int64_t i) {
        char* at = memory.data() + i * head_bytes;
        const auto next = [&](int64_t bytes) { return (at += bytes) - bytes; };
        BackwardPacked out{next(operand), next(operand), next(operand), next(operand), next(operand),
                           next(operand), next(operand), nullptr,       nullptr};
        out.lse = reinterpret_cast<float*>(next(vector));
        out.delta = reinterpret_cast<float*>(next(vector));
        return out;
      };
      const auto query_sums = [&](int64_t i) {
        return reinterpret_cast<float*>(memory.data() + i * head_bytes + 7 * operand + 2 * vector);
      };
      const int64_t chunks = tokens_ / kPackedKeys;
      parallel_ranges(count * chunks, elements, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t head = first + i / chunks, sample = head / forward_.heads;
          amx::rope_attention_backward_pack(problem_, sample, head % forward_.heads, i % chunks * kPackedKeys,
                                            valid_keys(sample), packed(i / chunks));
        }
      });
      parallel_items(count * parts_, elements, threads, [&](int64_t i) {
        const int64_t head = first + i / parts_, part = i % parts_, sample = head / forward_.heads;
        const int64_t block = part * blocks_of_part_, begin = block * kBlockKeys;
        const int64_t end = std::min(begin + blocks_of_part_ * kBlockKeys, forward_.tokens);
        const KeyPart work{sample,
                           head % forward_.heads,
                           begin,
                           end - begin,
                           query_sums(i / parts_) + part * (sums / 4),
                           &norm_sums_[head * key_blocks_ + block]};
        amx::rope_attention_backward_keys(problem_, work, valid_keys(sample), packed(i / parts_));
      });
      parallel_items(count * query_blocks_, elements, threads, [&](int64_t i) {
        const int64_t head = first + i / query_blocks_, block = i % query_blocks_, begin = block * kBlockQueries;
        const QueryBlock work{head / forward_.heads,
                              head % forward_.heads,
                              begin,
                              std::min(kBlockQueries, forward_.tokens - begin),
                              query_sums(i / query_blocks_) + begin * problem_.forward.depth,
                              parts_,
                              sums / 4,
                              &norm_sums_[heads_ * key_blocks_ + head * query_blocks_ + block]};
        amx::rope_attention_backward_queries(problem_, work);
      });
    }
    const NormSums* of_queries = norm_sums_.data() + heads_ * key_blocks_;
    add_norms(0, of_queries, heads_ * query_blocks_);
    add_norms(1, norm_sums_.data(), heads_ * key_blocks_);
  }

 private:
  int64_t valid_keys(int64_t sample) const { return forward_.kv_len ? forward_.kv_len[sample] : forward_.tokens; }

  // The gradient of the norm weights of q (0) or k (1). Without weights for text, those of video serve both.
  void add_norms(int which, const NormSums* sums, int64_t count) {
    if (!args_.grad_norm[which]) return;
    for (int64_t d = 0; d < forward_.head_dim; ++d) {
      double video = 0.0, text = 0.0;
      for (int64_t i = 0; i < count; ++i) video += sums[i].video[d], text += sums[i].text[d];
      float* grad_text = args_.grad_text_norm[which];
      args_.grad_norm[which][d] = static_cast<float>(grad_text ? video : video + text);
      if (grad_text) grad_text[d] = static_cast<float>(text);
    }
  }

  const hunyuan_rope_attention_backward_args& args_;
  const hunyuan_rope_attention_args& forward_;
  BackwardProblem problem_;
  const FloatNorms norms_;
  int64_t heads_, tokens_, key_blocks_, query_blocks_, parts_, blocks_of_part_;
  std::vector<NormSums> norm_sums_;  // of [head][block of keys], then of [head][block of queries]
};

}  // namespace
}  // namespace attention::cpu
}  // namespace hunyuan
#endif

extern "C" int hunyuan_rope_attention_backward(const hunyuan_rope_attention_backward_args* args,
                                               hunyuan_target target) {
  using namespace hunyuan;
  const hunyuan_rope_attention_args& forward = args->forward;
  if (target.device >= 0) return fail(HUNYUAN_NO_CUDA, "rope_attention_backward: has no CUDA kernel");
  if (!hunyuan_has_attention_unit(HUNYUAN_UNIT_AMX) || forward.unit != HUNYUAN_UNIT_AMX)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention_backward: needs AMX");
  if (forward.dtype != HUNYUAN_BF16) return fail(HUNYUAN_BAD_DTYPE, "rope_attention_backward: takes bfloat16");
  if (!forward.lse || forward.row_starts || !(forward.scale > 0.0f))
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention_backward: needs lse, a positive scale and no block mask");
  if (forward.head_dim < 16 || forward.head_dim > 128 || forward.head_dim % 16 != 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention_backward: head_dim must be a multiple of 16 up to 128, got %lld",
                static_cast<long long>(forward.head_dim));
  for (int64_t b = 0; forward.kv_len && b < forward.batch; ++b)
    if (forward.kv_len[b] < 1 || forward.kv_len[b] > forward.tokens)
      return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention_backward: kv_len %lld, but there are %lld tokens",
                  static_cast<long long>(forward.kv_len[b]), static_cast<long long>(forward.tokens));
  if (forward.batch * forward.heads * forward.tokens == 0) return HUNYUAN_OK;
#if defined(HUNYUAN_AMX)
  try {
    attention::cpu::BackwardCall(*args).run(target.threads);
  } catch (const std::bad_alloc&) {
    return fail(HUNYUAN_BAD_ARGUMENT, "rope_attention_backward: not enough memory for the packed heads");
  }
#endif
  return HUNYUAN_OK;
}
