// Every CPU kernel of the C ABI. A new one: a function here that draws its arguments, and its line in `kCases`.
#pragma once

#include "problem.h"

// tokens.cpp
void template_scale(Problem& problem);
void layer_norm_modulate(Problem& problem);
void gate_residual(Problem& problem);
void qk_norm_rope(Problem& problem);
// attention.cpp
void maybe_rope_and_lengths(Problem& problem, hunyuan_rope_attention_args& args, int64_t video);
void rope_attention(Problem& problem);
// linear.cpp
void linear(Problem& problem);
void int8_linear(Problem& problem);
void quantize_int8(Problem& problem);
// volumes.cpp
void pad_causal(Problem& problem);
void group_norm_silu(Problem& problem);
void group_norm_silu_known(Problem& problem);
void channel_moments(Problem& problem);
// gradients.cpp
void rope_attention_backward(Problem& problem);
void layer_norm_modulate_backward(Problem& problem);
void gate_residual_backward(Problem& problem);
void gelu(Problem& problem);
// weights.cpp
void decode_fp8(Problem& problem);

struct Case {
  const char* name;
  void (*run)(Problem&);
};

// clang-format off
constexpr Case kCases[] = {
    {"template_scale", template_scale},
    {"layer_norm_modulate", layer_norm_modulate},
    {"gate_residual", gate_residual},
    {"qk_norm_rope", qk_norm_rope},
    {"rope_attention", rope_attention},
    {"linear", linear},
    {"int8_linear", int8_linear},
    {"quantize_int8", quantize_int8},
    {"pad_causal", pad_causal},
    {"group_norm_silu", group_norm_silu},
    {"group_norm_silu_known", group_norm_silu_known},
    {"channel_moments", channel_moments},
    {"rope_attention_backward", rope_attention_backward},
    {"layer_norm_modulate_backward", layer_norm_modulate_backward},
    {"gate_residual_backward", gate_residual_backward},
    {"gelu", gelu},
    {"decode_fp8", decode_fp8},
};
// clang-format on
