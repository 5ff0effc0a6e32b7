// Host twins of csrc/cuda/ptx/warp.cuh.
#pragma once

#include <cstring>

#include "simulator/units.h"

namespace fsv::ptx {

inline int lane_id() { return threadIdx.x & 31; }
inline void syncwarp(uint32_t mask = ~0u, sim::Location at = sim::here()) { sim::sync_warp(mask, at); }

namespace detail {

template <class T>
T shuffle(T value, sim::Shuffle kind, int operand, sim::Location at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof(T));
  word = sim::shuffle(word, kind, operand, at);
  std::memcpy(&value, &word, sizeof(T));
  return value;
}

}  // namespace detail

template <class T>
T shfl_xor(T value, int mask, sim::Location at = sim::here()) {
  return detail::shuffle(value, sim::Shuffle::exclusive_or, mask, at);
}
template <class T>
T shfl(T value, int source, sim::Location at = sim::here()) {
  return detail::shuffle(value, sim::Shuffle::index, source, at);
}
template <class T>
T shfl_up(T value, int delta, sim::Location at = sim::here()) {
  return detail::shuffle(value, sim::Shuffle::up, delta, at);
}
template <class T>
T shfl_down(T value, int delta, sim::Location at = sim::here()) {
  return detail::shuffle(value, sim::Shuffle::down, delta, at);
}

inline uint32_t vote_ballot(bool predicate, sim::Location at = sim::here()) {
  return sim::ballot(predicate, at);
}
inline bool vote_any(bool predicate, sim::Location at = sim::here()) {
  return sim::ballot(predicate, at) != 0;
}
inline bool vote_all(bool predicate, sim::Location at = sim::here()) {
  return sim::ballot(!predicate, at) == 0;
}
inline bool elect_one(sim::Location at = sim::here()) { return sim::elect(at); }

}  // namespace fsv::ptx
