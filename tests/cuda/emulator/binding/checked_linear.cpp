// The host checks of linear_fp8, linear_few_rows and quantize_rows, under other names, for entries.cpp to call with a device.
#define hunyuan_linear_fp8 checked_linear_fp8
#define hunyuan_linear_few_rows checked_linear_few_rows
#define hunyuan_quantize_rows checked_quantize_rows
#include "../../../../csrc/linear/linear_fp8.cpp"
