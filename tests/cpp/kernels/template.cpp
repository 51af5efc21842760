// The template op.
#include "cases.h"

CASE(template_scale) {
  hunyuan_template_scale_args args{};
  args.dtype = problem.dtype();
  args.count = problem.size(0, 5) ? problem.length() : problem.size(32768, 40000);  // the last: several threads
  args.x = problem.input(args.dtype, args.count);
  args.out = problem.output(args.dtype, args.count);
  args.factor = 1.7f;
  problem.run([&](hunyuan_target target) { return hunyuan_template_scale(&args, target); });
}
