/**
 * @file hunyuan/types.h
 * @brief What every op of the C ABI shares: status, element types, where a kernel runs, what was built.
 *
 * Conventions. Sizes and strides are in elements. The innermost dimension of every tensor is contiguous unless a
 * function says otherwise. Inputs and outputs of one call live on one device. Functions return HUNYUAN_OK or a
 * status; the reason, one line, is then in hunyuan_last_error() of the same thread. Outputs are the caller's memory and
 * never overlap inputs unless a function allows it. CUDA calls are asynchronous on `target.stream`.
 */
#pragma once

#include <stdint.h>

/**
 * Version of the ABI that these headers describe. It rises when a function, the layout of a structure or the value of a
 * constant changes; new functions and constants leave it. The shared library carries it in its name (SOVERSION).
 */
#define HUNYUAN_ABI_VERSION 1

/** Marks the functions of the C ABI; libhunyuan_kernels is built with HUNYUAN_LIBRARY defined and exports them. */
#if defined(HUNYUAN_LIBRARY)
#define HUNYUAN_API __attribute__((visibility("default")))
#else
#define HUNYUAN_API
#endif

#if defined(__cplusplus)
extern "C" {
#endif

/** Result of a call. */
enum hunyuan_status {
  HUNYUAN_OK = 0,
  HUNYUAN_BAD_ARGUMENT = 1, /**< a size, stride or flag is out of range */
  HUNYUAN_BAD_DTYPE = 2,    /**< the kernel does not exist for this element type */
  HUNYUAN_NO_CUDA = 3,      /**< built without CUDA kernels */
  HUNYUAN_CUDA_ERROR = 4    /**< the CUDA runtime reported an error */
};

/** Element types. */
enum hunyuan_dtype {
  HUNYUAN_F32 = 0,
  HUNYUAN_BF16 = 1,
  HUNYUAN_F16 = 2,
  HUNYUAN_E4M3 = 3,
  HUNYUAN_OTHER = 4,
  HUNYUAN_I32 = 5,
  HUNYUAN_I8 = 6
};

/** Instruction sets of the CPU kernels; a level includes the ones below it. */
enum hunyuan_isa { HUNYUAN_SCALAR = 0, HUNYUAN_AVX2 = 1, HUNYUAN_AVX512 = 2 };

/** Where a kernel runs. */
typedef struct hunyuan_target {
  int device;   /**< -1 for the CPU, else the CUDA device ordinal */
  void* stream; /**< cudaStream_t; CUDA only */
  int threads;  /**< most OpenMP threads to use; CPU only; the result does not depend on it */
} hunyuan_target;

/** HUNYUAN_ABI_VERSION as the library was built with. */
HUNYUAN_API int hunyuan_abi_version(void);

/** Whether the library has the ABI that this program was compiled for; ask before the first call. */
static inline int hunyuan_abi_matches(void) { return hunyuan_abi_version() == HUNYUAN_ABI_VERSION; }

/** Text of this thread's last error; valid until its next failing call. */
HUNYUAN_API const char* hunyuan_last_error(void);

/** What was compiled in: comma separated CUDA architectures ("sm_80,sm_89,sm_90a"), empty for a CPU build. */
HUNYUAN_API const char* hunyuan_built_cuda_archs(void);

/** Highest level that was built and that this processor supports. */
HUNYUAN_API enum hunyuan_isa hunyuan_isa_supported(void);

/** Level in effect: the supported one, lowered by hunyuan_set_isa. */
HUNYUAN_API enum hunyuan_isa hunyuan_isa_in_use(void);

/** Use at most `level` from now on, in all threads (tests, debugging); fails when it is not supported. */
HUNYUAN_API int hunyuan_set_isa(enum hunyuan_isa level);

/** Space separated names of the processor features that kernels ask for ("avx2 fma avx512f ... amx_bf16"). */
HUNYUAN_API const char* hunyuan_cpu_features(void);

/** Number of usable CUDA devices; 0 without a driver or a CUDA build. */
HUNYUAN_API int hunyuan_cuda_device_count(void);

/** Whether Intel made the processor: MKL, which multiplies for torch, takes slower paths on others. */
HUNYUAN_API int hunyuan_cpu_is_intel(void);

#if defined(__cplusplus)
}
#endif
