// The host checks of causal_conv3d, under another name, for entries.cpp to call with a device.
#define hunyuan_causal_conv3d checked_causal_conv3d
#define hunyuan_causal_conv3d_moment_chunks checked_causal_conv3d_moment_chunks
#include "../../../../csrc/conv3d/causal_conv3d.cpp"
