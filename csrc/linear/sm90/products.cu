// Which FP8 product of Hopper multiplies what.
#include "linear/sm90/products.h"

namespace hunyuan::linear {

// The general product takes everything. Straight code takes whole strips of 32 columns (with codes, blocks of 128,
// after GELU), and a gate only with a residual, without GELU, and in tiles of 256 rows that lie within one clip.
bool takes(Product product, const hunyuan_linear_fp8_args& args) {
  if (product == Product::kGeneral) return true;
  if (args.out_columns % 32 != 0) return false;
  if (args.out_scale) return args.gelu && !args.gate && !args.residual && args.out_columns % 128 == 0;
  if (!args.gate && !args.residual) return true;
  const bool whole_clips = args.tokens >= args.rows || args.tokens % 256 == 0;
  const bool aligned = reinterpret_cast<uintptr_t>(args.gate) % 16 == 0 && args.gate_stride % 8 == 0;
  return args.gate && args.residual && !args.gelu && whole_clips && aligned;
}

int sm90_product(Product product, const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  if (!takes(product, args)) return fail(HUNYUAN_BAD_ARGUMENT, "linear_fp8: this kernel does not take these operands");
  return product == Product::kStraight ? sm90_straight_linear_fp8(args, target) : sm90_general_linear_fp8(args, target);
}

// Straight code was faster at every size that was measured (docs/kernels/fp8_linear.md).
int sm90_linear_fp8(const hunyuan_linear_fp8_args& args, hunyuan_target target) {
  return sm90_product(takes(Product::kStraight, args) ? Product::kStraight : Product::kGeneral, args, target);
}

}  // namespace hunyuan::linear
