// Host twins of csrc/cuda/ptx/copy.cuh.
#pragma once

#include "simulator/units.h"

namespace fsv::ptx {

inline void cp_async16(uint32_t dst, const void* src, bool valid, sim::Location at = sim::here()) {
  sim::cp_async(dst, src, 16, valid ? 16 : 0, at);
}
inline void cp_async16_partial(uint32_t dst, const void* src, int bytes, sim::Location at = sim::here()) {
  sim::cp_async(dst, src, 16, bytes, at);
}
inline void cp_async8(uint32_t dst, const void* src, bool valid, sim::Location at = sim::here()) {
  sim::cp_async(dst, src, 8, valid ? 8 : 0, at);
}
inline void cp_async4(uint32_t dst, const void* src, bool valid, sim::Location at = sim::here()) {
  sim::cp_async(dst, src, 4, valid ? 4 : 0, at);
}
inline void cp_async_commit(sim::Location at = sim::here()) { sim::cp_async_commit(at); }
template <int Pending>
void cp_async_wait(sim::Location at = sim::here()) {
  sim::cp_async_wait(Pending, at);
}

inline void bulk_load(uint32_t dst, const void* src, uint32_t bytes, uint32_t bar,
                      sim::Location at = sim::here()) {
  sim::bulk_load(dst, src, bytes, bar, at);
}
inline void bulk_store(void* dst, uint32_t src, uint32_t bytes, sim::Location at = sim::here()) {
  sim::bulk_store(dst, src, bytes, at);
}
inline void bulk_commit(sim::Location at = sim::here()) { sim::bulk_commit(at); }
template <int Pending>
void bulk_wait_read(sim::Location at = sim::here()) {
  sim::bulk_wait(Pending, true, at);
}
template <int Pending>
void bulk_wait(sim::Location at = sim::here()) {
  sim::bulk_wait(Pending, false, at);
}

}  // namespace fsv::ptx
