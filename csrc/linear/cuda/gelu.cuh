// The activation of linear layers on the device.
#pragma once

#include "common/cuda/cuda.cuh"

namespace hunyuan::linear {

// GELU, tanh form: x times the logistic function of twice the tanh's argument.
__device__ inline float gelu_tanh(float x) {
  constexpr float kTwiceRoot2OverPi = 1.5957691216057308f;
  const float u = kTwiceRoot2OverPi * fmaf(0.044715f * x * x, x, x);
  return __fdividef(x, 1.0f + __expf(-u));
}

}  // namespace hunyuan::linear
