/* What the three programs share: inputs, the check of the library, and the result as lines of text. */
#include <hunyuan_ext.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void fill(float* x, int count, float phase) {
  for (int i = 0; i < count; ++i) x[i] = sinf(phase + 0.37f * (float)i);
}

static void require(int ok, const char* reason) {
  if (ok) return;
  fprintf(stderr, "%s\n", reason);
  exit(1);
}

/* Before the first call: headers and library of different releases may disagree about structures. */
static void require_library(void) {
  require(hunyuan_abi_matches(), "libhunyuan_kernels has another ABI than the headers: install both from one release");
}

static void print(const float* x, int count) {
  for (int i = 0; i < count; ++i) printf("%.9g\n", x[i]);
}
