// Host twins of csrc/cuda/ptx/cluster.cuh.
#pragma once

#include <cstring>

#include "simulator/units.h"

namespace fsv::ptx {

inline uint32_t cluster_rank() { return sim::cluster_rank(); }
inline uint32_t cluster_size() { return sim::cluster_size(); }
inline void cluster_arrive(sim::Location at = sim::here()) { sim::cluster_arrive(at); }
inline void cluster_wait(sim::Location at = sim::here()) { sim::cluster_wait(at); }
inline void cluster_sync(sim::Location at = sim::here()) {
  sim::cluster_arrive(at);
  sim::cluster_wait(at);
}
inline uint32_t mapa(uint32_t address, uint32_t rank, sim::Location at = sim::here()) {
  return sim::map_shared(address, rank, at);
}

template <class T>
T lds_cluster(uint32_t mapped, sim::Location at = sim::here()) {
  static_assert(sizeof(T) == 4);
  T value;
  std::memcpy(&value, sim::shared_access(mapped, sizeof(T), sim::Access::read, at), sizeof(T));
  return value;
}
template <class T>
void sts_cluster(uint32_t mapped, T value, sim::Location at = sim::here()) {
  static_assert(sizeof(T) == 4);
  std::memcpy(sim::shared_access(mapped, sizeof(T), sim::Access::write, at), &value, sizeof(T));
}
inline void mbar_arrive_cluster(uint32_t mapped, sim::Location at = sim::here()) {
  sim::mbarrier_arrive(mapped, 1, 0, at);
}

}  // namespace fsv::ptx
