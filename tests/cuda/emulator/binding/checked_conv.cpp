// The host checks of causal_conv3d, under another name, for entries.cpp to call with a device.
#include <cstdlib>
#define hunyuan_causal_conv3d checked_causal_conv3d
#define hunyuan_causal_conv3d_moment_chunks checked_causal_conv3d_moment_chunks
#include "../../../../csrc/conv3d/causal_conv3d.cpp"

// The checks' file names the CPU's kernel, too; here every tensor goes to the device.
namespace hunyuan::scalar {
void causal_conv3d_rows(const hunyuan_causal_conv3d_args&, int64_t, int64_t, int64_t, float*) { std::abort(); }
}  // namespace hunyuan::scalar
