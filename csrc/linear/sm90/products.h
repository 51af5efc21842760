// The FP8 products of Hopper, and which of them multiplies what.
#pragma once

#include "linear/linear.h"

namespace hunyuan::linear {

enum class Product : int { kGeneral, kStraight };

bool takes(Product product, const hunyuan_linear_fp8_args& args);
int sm90_product(Product product, const hunyuan_linear_fp8_args& args, hunyuan_target target);

int sm90_general_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target);
int sm90_straight_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target);

}  // namespace hunyuan::linear
