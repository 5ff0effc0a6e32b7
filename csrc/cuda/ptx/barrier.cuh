// What the warps of a block do together: barriers, fences between the proxies, the register pool, and the
// next grid.
#pragma once

#include <cstdint>

#include "cuda/ptx/target.cuh"

namespace fsv::ptx {

FSV_DEVICE void syncthreads() { __syncthreads(); }

/// Named barrier `id` (1..15; 0 is syncthreads) of `threads` threads, a multiple of 32.
FSV_DEVICE void bar_sync(int id, int threads) {
  asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
FSV_DEVICE void bar_arrive(int id, int threads) {
  asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Moves registers between the warpgroups of a block; all warps of a warpgroup execute it. Needs launch
/// bounds, or ptxas drops it (note C7508).
template <int Registers>
FSV_DEVICE void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
FSV_DEVICE void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

/// Makes this thread's ordinary shared-memory writes visible to TMA and wgmma: write, fence, barrier, then
/// the copy.
FSV_DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// The same of global memory that this kernel wrote and then reads by TMA.
FSV_DEVICE void fence_proxy_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

/// Makes initialised mbarriers visible to TMA and to the cluster.
FSV_DEVICE void fence_mbar_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// Programmatic dependent launch: waits until the grids before this one are finished and their writes
/// visible; before it nothing of theirs may be read, and nothing they read may be written.
FSV_DEVICE void griddepcontrol_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// Lets the next grid start its blocks as soon as all blocks of this one have said so or ended.
FSV_DEVICE void griddepcontrol_launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace fsv::ptx
