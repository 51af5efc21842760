// What the driver of the attention's gradients (attention/rope_attention_backward.cpp) and its kernels share. A head's
// operands are packed once. Then parts of its keys are computed independently of each other: a part has the gradients
// of its keys and values, and its own addend of the gradient of all queries.
#pragma once

#include "attention/cpu/rope_attention.h"
#include "hunyuan/attention.h"

namespace hunyuan {
namespace attention::cpu {

constexpr int64_t kBlockQueries = 256;  // queries and keys of a block: its weights and sums fit the second cache
constexpr int64_t kBlockKeys = 128;

struct BackwardProblem {
  Problem forward;
  const hunyuan_rope_attention_backward_args* args;
};

// One head, bfloat16; tokens past the end are zeros. "pairs": [32 tokens][panel of 16 of depth][16 pairs of tokens].
struct BackwardPacked {
  char* query_columns;  // [panel of 16 queries][block along depth], in units of log2(e) / scale
  char* query_pairs;    // the same queries
  char* grad_columns;   // gradients of the output
  char* grad_pairs;     // the same
  char* keys;           // [tokens][depth]
  char* values;         // [tokens][depth]
  char* key_turned;     // [kBlockKeys][depth][kBlockKeys]
  float* lse;           // [tokens]; infinite past the end
  float* delta;         // [tokens]: gradient of the output times the output, summed
};

// The gradient of norm weights that some tokens give: of video and of text tokens.
struct NormSums {
  float video[128];
  float text[128];
};

// Keys [first, first + count) of a head: count at most what the part has, first a multiple of kBlockKeys.
struct KeyPart {
  int64_t sample, head, first, count;
  float* query_sums;  // [block of queries][depth][kBlockQueries]: written
  NormSums* norms;    // one for every block of keys
};

// Queries [first, first + count) of a head, and the addends of their gradient.
struct QueryBlock {
  int64_t sample, head, first, count;
  const float* query_sums;  // of this block of queries in the first part
  int64_t parts, part_stride;
  NormSums* norms;
};

constexpr int64_t kMostBackwardDepth = 128;
static_assert(sizeof(NormSums) == 2 * kMostBackwardDepth * sizeof(float), "a head's weights must fit");

}  // namespace attention::cpu

#if defined(HUNYUAN_AMX)
namespace amx {
// 32 tokens from `first` on.
void rope_attention_backward_pack(const attention::cpu::BackwardProblem& problem, int64_t sample, int64_t head,
                                  int64_t first, int64_t valid_keys, const attention::cpu::BackwardPacked& packed);
void rope_attention_backward_keys(const attention::cpu::BackwardProblem& problem, const attention::cpu::KeyPart& part,
                                  int64_t valid_keys, const attention::cpu::BackwardPacked& packed);
void rope_attention_backward_queries(const attention::cpu::BackwardProblem& problem,
                                     const attention::cpu::QueryBlock& block);
}  // namespace amx
#endif

}  // namespace hunyuan
