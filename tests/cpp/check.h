// The few lines of test framework that the C++ tests need: CHECK counts and reports, main returns report().
#pragma once

#include <cstdio>

inline int failures = 0, checks = 0;

#define CHECK(condition, ...)                                     \
  do {                                                            \
    ++checks;                                                     \
    if (!(condition) && ++failures <= 20) {                       \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                   \
      std::printf("\n");                                          \
    }                                                             \
  } while (0)

inline int report() {
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures != 0 || checks == 0;
}
