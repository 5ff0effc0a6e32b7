// Host twins of csrc/cuda/ptx/memory.cuh.
#pragma once

#include <cstring>
#include <type_traits>

#include "simulator/units.h"

namespace fsv::ptx {

inline uint32_t smem_base() { return sim::smem_base(); }

template <class T>
T lds(uint32_t address, sim::Location at = sim::here()) {
  T value;
  std::memcpy(&value, sim::shared_access(address, sizeof(T), sim::Access::read, at), sizeof(T));
  return value;
}
template <class T>
void sts(uint32_t address, T value, sim::Location at = sim::here()) {
  std::memcpy(sim::shared_access(address, sizeof(T), sim::Access::write, at), &value, sizeof(T));
}

template <class T>
T ldg(const T* p, sim::Location at = sim::here()) {
  sim::global_access(p, sizeof(T), sim::Access::read_noncoherent, at);
  return *p;
}
template <class T>
T ldg_coherent(const T* p, sim::Location at = sim::here()) {
  sim::global_access(p, sizeof(T), sim::Access::read, at);
  return *p;
}
template <class T>
T ldg_stream(const T* p, sim::Location at = sim::here()) {
  return ldg_coherent(p, at);
}
template <class T>
void stg(T* p, std::type_identity_t<T> value, sim::Location at = sim::here()) {
  sim::global_access(p, sizeof(T), sim::Access::write, at);
  *p = value;
}
template <class T>
void stg_stream(T* p, std::type_identity_t<T> value, sim::Location at = sim::here()) {
  stg(p, value, at);
}

}  // namespace fsv::ptx
