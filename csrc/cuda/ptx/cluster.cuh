// Thread-block clusters: barriers over several blocks and each other's shared memory.
#pragma once

#include <cstdint>

#include "cuda/ptx/memory.cuh"

namespace fsv::ptx {

/// This block's number in its cluster.
FSV_DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

FSV_DEVICE uint32_t cluster_size() {
  uint32_t size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}

/// Arrive releases and wait acquires memory, of all threads of the cluster that have not ended.
FSV_DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
FSV_DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
FSV_DEVICE void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

/// The address, in the cluster's window, of what lies at `address` in block `rank`.
FSV_DEVICE uint32_t mapa(uint32_t address, uint32_t rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

/// Load and store of 4 bytes at an address of mapa.
template <class T>
FSV_DEVICE T lds_cluster(uint32_t mapped) {
  static_assert(sizeof(T) == 4);
  unsigned word;
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(word) : "r"(mapped) : "memory");
  return detail::bits<T>(word);
}
template <class T>
FSV_DEVICE void sts_cluster(uint32_t mapped, T value) {
  static_assert(sizeof(T) == 4);
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(mapped), "r"(detail::bits<unsigned>(value))
               : "memory");
}

/// Arrives at the mbarrier of another block, its address from mapa.
FSV_DEVICE void mbar_arrive_cluster(uint32_t mapped) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(mapped) : "memory");
}

}  // namespace fsv::ptx
