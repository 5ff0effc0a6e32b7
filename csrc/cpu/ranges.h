// How much of an op one claim of a worker is.
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

/// Items of a compute-bound op of so many floating point operations: one at a time, or all of them where they
/// take no longer than waking others does.
inline int64_t items_a_range(int64_t items, int64_t flops) {
  constexpr int64_t kWorthWaking = 4'000'000;  // 20 to 40 us of one thread
  return flops < kWorthWaking ? items : 1;
}

}  // namespace fsv::cpu
