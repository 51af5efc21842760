// Every CPU kernel of the C ABI has a case: CASE(name) { ... } in its family's file draws random arguments from
// `problem` and runs it. main.cpp runs all cases.
#pragma once

#include <map>

#include "problem.h"

using Case = void (*)(Problem&);

// By name, so that their order does not depend on the linker.
inline std::map<std::string, Case>& cases() {
  static std::map<std::string, Case> all;
  return all;
}

#define CASE(name)                                                                        \
  static void name(Problem& problem);                                                     \
  [[maybe_unused]] static const bool name##_added = cases().emplace(#name, &name).second; \
  static void name(Problem& problem)
