// Host twins of csrc/cuda/ptx/barrier.cuh.
#pragma once

#include "simulator/units.h"

namespace fsv::ptx {

inline void syncthreads(sim::Location at = sim::here()) { sim::barrier(0, 0, true, at); }
inline void bar_sync(int id, int threads, sim::Location at = sim::here()) {
  sim::barrier(id, threads, true, at);
}
inline void bar_arrive(int id, int threads, sim::Location at = sim::here()) {
  sim::barrier(id, threads, false, at);
}

template <int Registers>
void setmaxnreg_inc(sim::Location at = sim::here()) {
  sim::set_registers(Registers, true, at);
}
template <int Registers>
void setmaxnreg_dec(sim::Location at = sim::here()) {
  sim::set_registers(Registers, false, at);
}

inline void fence_proxy_async(sim::Location at = sim::here()) { sim::fence(sim::Fence::async_shared, at); }
inline void fence_proxy_async_global(sim::Location at = sim::here()) {
  sim::fence(sim::Fence::async_global, at);
}
inline void fence_mbar_init(sim::Location at = sim::here()) { sim::fence(sim::Fence::mbarrier_init, at); }

// Grids run one after another here, so that there is never anything to wait for.
inline void griddepcontrol_wait() {}
inline void griddepcontrol_launch_dependents() {}

}  // namespace fsv::ptx
