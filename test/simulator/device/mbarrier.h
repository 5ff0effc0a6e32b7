// Host twins of csrc/cuda/ptx/mbarrier.cuh.
#pragma once

#include "simulator/units.h"

namespace fsv::ptx {

inline void mbar_init(uint32_t bar, uint32_t arrivals, sim::Location at = sim::here()) {
  sim::mbarrier_init(bar, arrivals, at);
}
inline void mbar_inval(uint32_t bar, sim::Location at = sim::here()) { sim::mbarrier_invalidate(bar, at); }
inline void mbar_arrive(uint32_t bar, sim::Location at = sim::here()) { sim::mbarrier_arrive(bar, 1, 0, at); }
inline void mbar_arrive_expect_tx(uint32_t bar, uint32_t bytes, sim::Location at = sim::here()) {
  sim::mbarrier_arrive(bar, 1, bytes, at);
}
inline void mbar_expect_tx(uint32_t bar, uint32_t bytes, sim::Location at = sim::here()) {
  sim::mbarrier_arrive(bar, 0, bytes, at);
}
inline bool mbar_try_wait(uint32_t bar, uint32_t parity, sim::Location at = sim::here()) {
  return sim::mbarrier_test(bar, parity, at);
}
inline void mbar_wait(uint32_t bar, uint32_t parity, sim::Location at = sim::here()) {
  sim::mbarrier_wait(bar, parity, at);
}
inline void mbar_wait_cluster(uint32_t bar, uint32_t parity, sim::Location at = sim::here()) {
  sim::mbarrier_wait(bar, parity, at);
}

}  // namespace fsv::ptx
