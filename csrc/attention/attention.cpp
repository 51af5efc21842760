// attention: argument checks and dispatch.
#include <initializer_list>

#include "attention/attention.h"
#include "attention/sm90/fp8.h"
#include "common/host/status.h"

namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30;  // tile indices are 32-bit

bool aligned(const void* data, const int64_t (&stride)[3]) {
  bool fits = reinterpret_cast<uintptr_t>(data) % 16 == 0;
  for (int64_t step : stride) fits = fits && step >= 0 && step % 8 == 0;
  return fits;
}

}  // namespace

namespace hunyuan::attention {
namespace {

int check(const hunyuan_attention_args* args, hunyuan_target target) {
  if (target.device < 0) return fail(HUNYUAN_BAD_ARGUMENT, "attention: has no CPU kernel");
  if (args->batch < 0 || args->queries < 0 || args->keys < 0 || args->heads < 0 || args->queries > kMostTokens ||
      args->keys > kMostTokens)
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: sizes must be from 0 to 2^30 tokens");
  if (args->dtype != HUNYUAN_BF16) return fail(HUNYUAN_BAD_DTYPE, "attention: the CUDA kernels take bfloat16");
  if (args->head_dim != 64 && args->head_dim != 128)
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: the CUDA kernels take a head_dim of 64 or 128, got %lld",
                static_cast<long long>(args->head_dim));
  if (!(args->scale > 0.0f))
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: scale must be positive, got %g", args->scale);
  if (!aligned(args->q, args->q_stride) || !aligned(args->k, args->k_stride) || !aligned(args->v, args->v_stride) ||
      !aligned(args->out, args->out_stride))
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: addresses must be multiples of 16 bytes and strides of 8 elements");
  if ((args->row_starts == nullptr) != (args->key_blocks == nullptr))
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: a block mask needs both row_starts and key_blocks");
  if (args->row_starts &&
      (args->query_tile <= 0 || args->query_tile % kMaskTile || args->key_tile <= 0 || args->key_tile % kMaskTile))
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: tiles of a block mask must be multiples of %lld, got %lld x %lld",
                static_cast<long long>(kMaskTile), static_cast<long long>(args->query_tile),
                static_cast<long long>(args->key_tile));
  if (work_count(*args, 1) != 0 && args->keys == 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: needs at least one key");
  if (work_count(*args, 128) > 0x7fffffff - 8)
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: more than 2^31 tiles in one call");
  return HUNYUAN_OK;
}

int check_before(const hunyuan_attention_args& args, const hunyuan_norm_rope_args& before) {
  if (before.text_tokens < 0 || before.text_tokens > args.keys)
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: %lld text tokens of %lld", static_cast<long long>(before.text_tokens),
                static_cast<long long>(args.keys));
  if ((before.cos || before.text_tokens) && args.queries != args.keys)
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: rotation and text tokens need as many queries as keys");
  bool fits = before.cos_stride % 4 == 0 && before.sin_stride % 4 == 0;
  for (const void* data : {before.norm[0], before.norm[1], before.text_norm[0], before.text_norm[1],
                           static_cast<const void*>(before.cos), static_cast<const void*>(before.sin)})
    fits = fits && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  if (!fits) return fail(HUNYUAN_BAD_ARGUMENT, "attention: norm weights and tables must lie at multiples of 16 bytes");
  return HUNYUAN_OK;
}

}  // namespace
}  // namespace hunyuan::attention

using namespace hunyuan;

extern "C" int hunyuan_attention(const hunyuan_attention_args* args, hunyuan_target target) {
  const int status = attention::check(args, target);
  if (status != HUNYUAN_OK || attention::work_count(*args, 1) == 0) return status;
  return attention_cuda(*args, target);
}

extern "C" int64_t hunyuan_attention_fp8_workspace(const hunyuan_attention_args* args) {
  return attention::sm90::fp8_workspace(*args).bytes;
}

extern "C" int hunyuan_attention_fp8(const hunyuan_attention_args* args, const hunyuan_norm_rope_args* before,
                                     void* workspace, hunyuan_target target) {
  int status = attention::check(args, target);
  if (status == HUNYUAN_OK) status = attention::check_before(*args, *before);
  if (status != HUNYUAN_OK || attention::work_count(*args, 1) == 0) return status;
  if (args->head_dim != 128)
    return fail(HUNYUAN_BAD_ARGUMENT, "attention: the FP8 kernel takes a head_dim of 128, got %lld",
                static_cast<long long>(args->head_dim));
  return attention_fp8_cuda(*args, *before, workspace, target);
}
