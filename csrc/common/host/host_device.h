// Marks functions that kernels share with the host: tile schedules and layouts are tested on the CPU (tests/cpp).
#pragma once

#if defined(__CUDACC__)
#define HUNYUAN_HOST_DEVICE __host__ __device__
#else
#define HUNYUAN_HOST_DEVICE
#endif
