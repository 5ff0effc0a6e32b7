// Copies without a tensor map: cp.async (sm_80), 16 bytes or less a thread, and bulk copies (sm_90) of any
// length.
#pragma once

#include <cstdint>

#include "cuda/ptx/target.cuh"

namespace fsv::ptx {

/// Copies 16 bytes from global to shared memory; zeros where !valid (nothing is read then).
FSV_DEVICE void cp_async16(uint32_t dst, const void* src, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(valid ? 16 : 0)
               : "memory");
}

/// Copies the first `bytes` (0..16) of 16; the rest become zeros.
FSV_DEVICE void cp_async16_partial(uint32_t dst, const void* src, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}

/// The same of 8 and 4 bytes, through the first-level cache.
FSV_DEVICE void cp_async8(uint32_t dst, const void* src, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(dst), "l"(src), "r"(valid ? 8 : 0)
               : "memory");
}
FSV_DEVICE void cp_async4(uint32_t dst, const void* src, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(src), "r"(valid ? 4 : 0)
               : "memory");
}

FSV_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most Pending of this thread's latest groups are unfinished.
template <int Pending>
FSV_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Copies `bytes` (a multiple of 16, as are both addresses) to shared memory and reports them to an mbarrier.
FSV_DEVICE void bulk_load(uint32_t dst, const void* src, uint32_t bytes, uint32_t bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(dst),
      "l"(src), "r"(bytes), "r"(bar)
      : "memory");
}

/// Copies `bytes` from shared to global memory, in the thread's current bulk group.
FSV_DEVICE void bulk_store(void* dst, uint32_t src, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(dst), "r"(src), "r"(bytes)
               : "memory");
}

/// Ends the group of this thread's bulk and TMA stores.
FSV_DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/// Waits until all but the latest Pending groups have read their shared memory, which may then be written
/// again.
template <int Pending>
FSV_DEVICE void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}

/// Waits until all but the latest Pending groups are complete.
template <int Pending>
FSV_DEVICE void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace fsv::ptx
