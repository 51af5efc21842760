/* Attention of 2 samples with another number of valid keys each; q, k and v lie side by side, as a linear layer writes them. */
#include "example.h"

enum { BATCH = 2, TOKENS = 9, HEADS = 3, DIM = 32, ROW = 3 * HEADS * DIM, SIZE = BATCH * TOKENS * HEADS * DIM };

int main(void) {
  require_library();
  static float qkv[BATCH * TOKENS * ROW], out[SIZE];
  const int64_t valid[BATCH] = {TOKENS, 5};
  fill(qkv, BATCH * TOKENS * ROW, 0.5f);
  const hunyuan_target cpu = {.device = -1, .threads = 2};
  const hunyuan_rope_attention_args args = {
      .q = qkv, .k = qkv + HEADS * DIM, .v = qkv + 2 * HEADS * DIM, .out = out, .kv_len = valid,
      .batch = BATCH, .tokens = TOKENS, .heads = HEADS, .head_dim = DIM,
      .q_stride = {TOKENS * ROW, ROW, DIM}, .k_stride = {TOKENS * ROW, ROW, DIM}, .v_stride = {TOKENS * ROW, ROW, DIM},
      .scale = 0.2f, .dtype = HUNYUAN_F32, .unit = HUNYUAN_UNIT_FLOAT};
  require(hunyuan_rope_attention(&args, cpu) == HUNYUAN_OK, hunyuan_last_error());
  print(out, SIZE);
  return 0;
}
