// The host checks of attention, under other names, for entries.cpp to call with a device.
#define hunyuan_attention checked_attention
#define hunyuan_attention_fp8 checked_attention_fp8
#define hunyuan_attention_fp8_workspace checked_attention_fp8_workspace
#include "../../../../csrc/attention/attention.cpp"
