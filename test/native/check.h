// All the test framework the native tests have: CHECK counts failures and names the place, finish() turns
// them into the exit status. A case that throws unexpectedly ends the program, which run.mjs reports as a
// failure too.
#pragma once

#include <cstdio>

namespace check {

inline int failures = 0;

inline void report(const char* file, int line, const char* what) {
  // A loop over all 65536 codes should not bury the first failure under the others.
  if (++failures <= 20) std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
}

/// The exit status of main: 0 when every CHECK held.
inline int finish() {
  if (failures > 0) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures > 0 ? 1 : 0;
}

}  // namespace check

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) check::report(__FILE__, __LINE__, #condition); \
  } while (false)
