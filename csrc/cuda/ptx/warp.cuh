// What the lanes of a warp do together. Every call is made by all 32 lanes.
#pragma once

#include <cstdint>

#include "cuda/ptx/memory.cuh"

namespace fsv::ptx {

FSV_DEVICE int lane_id() { return threadIdx.x & 31; }

/// Waits for the lanes and orders their memory accesses.
FSV_DEVICE void syncwarp(uint32_t mask = 0xffffffffu) { __syncwarp(mask); }

namespace detail {

template <class T>
struct ShuffleWord {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Type = unsigned;
};
template <class T>
  requires(sizeof(T) == 8)
struct ShuffleWord<T> {
  using Type = unsigned long long;
};
template <class T>
FSV_DEVICE auto shuffle_word(T value) {
  return bits<typename ShuffleWord<T>::Type>(value);
}

}  // namespace detail

/// The value of lane `lane ^ mask`; T has 4 or 8 bytes.
template <class T>
FSV_DEVICE T shfl_xor(T value, int mask) {
  return detail::bits<T>(__shfl_xor_sync(0xffffffffu, detail::shuffle_word(value), mask));
}

/// The value of lane `source`.
template <class T>
FSV_DEVICE T shfl(T value, int source) {
  return detail::bits<T>(__shfl_sync(0xffffffffu, detail::shuffle_word(value), source));
}

/// The value of lane `lane - delta`, or its own where there is none.
template <class T>
FSV_DEVICE T shfl_up(T value, int delta) {
  return detail::bits<T>(__shfl_up_sync(0xffffffffu, detail::shuffle_word(value), delta));
}

/// The value of lane `lane + delta`, or its own where there is none.
template <class T>
FSV_DEVICE T shfl_down(T value, int delta) {
  return detail::bits<T>(__shfl_down_sync(0xffffffffu, detail::shuffle_word(value), delta));
}

FSV_DEVICE uint32_t vote_ballot(bool predicate) { return __ballot_sync(0xffffffffu, predicate); }
FSV_DEVICE bool vote_any(bool predicate) { return __any_sync(0xffffffffu, predicate); }
FSV_DEVICE bool vote_all(bool predicate) { return __all_sync(0xffffffffu, predicate); }

/// True in one lane of the warp, and the compiler knows it.
FSV_DEVICE bool elect_one() {
  uint32_t elected;
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}" : "=r"(elected));
  return elected;
}

}  // namespace fsv::ptx
