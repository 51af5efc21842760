// Norm weights of a rope_attention call as float32.
#pragma once

#include <vector>

#include "attention/cpu/rope_attention.h"
#include "common/host/affine.h"

namespace hunyuan::attention::cpu {

class FloatNorms {
 public:
  // Points `weights` (of q and k) at them, or at null where tokens are not normed.
  FloatNorms(const hunyuan_rope_attention_args& args, QkNormWeights weights[2]) {
    for (int i = 0; i < 2; ++i) {
      weights[i] = {nullptr, nullptr};
      if (!args.norm[i]) continue;
      values_[i] = to_floats(args.norm[i], args.norm_dtype, args.head_dim, 1.0f);
      weights[i] = {values_[i].data(), values_[i].data()};
      if (!args.text_norm[i]) continue;
      values_[2 + i] = to_floats(args.text_norm[i], args.norm_dtype, args.head_dim, 1.0f);
      weights[i].text = values_[2 + i].data();
    }
  }
  FloatNorms(const FloatNorms&) = delete;
  FloatNorms& operator=(const FloatNorms&) = delete;

 private:
  std::vector<float> values_[4];
};

}  // namespace hunyuan::attention::cpu
