// pad_causal: argument checks, and the copy itself (memcpy needs no instruction-set variants).
#include "common/host/parallel.h"
#include "common/host/replicate_pad.h"
#include "common/host/status.h"
#include "conv3d/conv3d.h"

extern "C" int hunyuan_pad_causal(const hunyuan_pad_causal_args* args, hunyuan_target target) {
  using namespace hunyuan;
  if (args->planes < 0 || args->frames < 0 || args->rows < 0 || args->columns < 0 || args->cell_bytes <= 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "pad_causal: sizes must not be negative");
  if (args->pad_frames < 0 || args->pad_rows < 0 || args->pad_columns < 0)
    return fail(HUNYUAN_BAD_ARGUMENT, "pad_causal: pads must not be negative");
  if (args->planes * args->frames * args->rows * args->columns == 0) return HUNYUAN_OK;
  if (target.device >= 0) return pad_causal_cuda(*args, target);
  const ReplicatePad pad({args->out, args->planes, args->frames, args->rows, args->columns, args->cell_bytes,
                          args->pad_frames, args->pad_rows, args->pad_columns});
  const int64_t bytes = args->columns * args->cell_bytes;
  const char* x = static_cast<const char*>(args->x);
  parallel_ranges(pad.row_count(), pad.row_count() * args->columns, target.threads, [&](int64_t begin, int64_t end) {
    pad.put_rows(begin, end, [&](int64_t row, int64_t, char* out) { std::memcpy(out, x + row * bytes, bytes); });
  });
  return HUNYUAN_OK;
}
