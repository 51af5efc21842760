// qk_norm_rope: argument checks and dispatch.
#include <vector>

#include "attention/attention.h"
#include "common/host/affine.h"
#include "common/host/parallel.h"
#include "common/host/status.h"

extern "C" int hunyuan_qk_norm_rope(const hunyuan_qk_norm_rope_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->batch < 0 || args->tokens < 0 || args->heads < 0 || args->head_dim < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "qk_norm_rope: sizes must not be negative");
  if (args->text_tokens < 0 || args->text_tokens > args->tokens)
    return fail(HUNYUAN_BAD_ARGUMENT, "qk_norm_rope: %lld text tokens of %lld",
                static_cast<long long>(args->text_tokens), static_cast<long long>(args->tokens));
  if (args->cos && args->head_dim % 2 != 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "qk_norm_rope: rotary pairs need an even head_dim, got %lld",
                static_cast<long long>(args->head_dim));
  const int64_t tokens = args->batch * args->tokens, elements = 2 * tokens * args->heads * args->head_dim;
  if (elements == 0) return HUNYUAN_OK;
  if (target.device >= 0) return qk_norm_rope_cuda(*args, target);
  if (args->dtype != HUNYUAN_F32 && args->dtype != HUNYUAN_BF16)
    return fail(HUNYUAN_BAD_DTYPE, "qk_norm_rope: the CPU kernel takes float32 or bfloat16");

  std::vector<float> values[4];
  QkNormWeights weights[2];
  for (int i = 0; i < 2; ++i) {
    weights[i] = {nullptr, nullptr};
    if (!args->norm[i]) continue;
    values[i] = to_floats(args->norm[i], args->norm_dtype, args->head_dim, 1.0f);
    weights[i] = {values[i].data(), values[i].data()};
    if (!args->text_norm[i]) continue;
    values[2 + i] = to_floats(args->text_norm[i], args->norm_dtype, args->head_dim, 1.0f);
    weights[i].text = values[2 + i].data();
  }
  const auto kernel = HUNYUAN_PICK(qk_norm_rope_tokens);
  parallel_ranges(tokens, elements, target.threads,
                  [&](int64_t begin, int64_t end) { kernel(*args, weights, begin, end); });
  return HUNYUAN_OK;
}
