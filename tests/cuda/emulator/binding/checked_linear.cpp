// The host checks of linear_fp8 and quantize_rows, under other names, for entries.cpp to call with a device.
#define hunyuan_linear_fp8 checked_linear_fp8
#define hunyuan_quantize_rows checked_quantize_rows
#include "../../../../csrc/linear/linear_fp8.cpp"
