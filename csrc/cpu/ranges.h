// How much of a memory-bound op one claim of a worker is.
#pragma once

#include <cstdint>

namespace fsv::cpu {

/// Rows of `bytes` that make a range of about 64 KB: a few microseconds, so that claims cost nothing, ranges
/// even out between workers, and what fits one range wakes nobody.
inline int64_t rows_a_range(int64_t bytes) {
  constexpr int64_t kRange = 64 << 10;
  return bytes >= kRange ? 1 : kRange / (bytes > 0 ? bytes : 1);
}

inline constexpr int64_t kElementsARange = 16 << 10;

}  // namespace fsv::cpu
