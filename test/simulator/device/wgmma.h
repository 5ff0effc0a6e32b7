// Host twins of csrc/cuda/ptx/wgmma.cuh.
#pragma once

#include "cuda/ptx/layout.cuh"
#include "simulator/units.h"

namespace fsv::ptx {

// Overloads where the wrappers have a pack: a pack leaves no room for the location.
inline void wgmma_fence(sim::Location at = sim::here()) { sim::wgmma_fence(at); }
template <int R>
void wgmma_fence(float (&)[R], sim::Location at = sim::here()) {
  sim::wgmma_fence(at);
}
template <int R, int S>
void wgmma_fence(float (&)[R], float (&)[S], sim::Location at = sim::here()) {
  sim::wgmma_fence(at);
}

inline void wgmma_commit(sim::Location at = sim::here()) { sim::wgmma_commit(at); }

template <int Pending>
void wgmma_wait(sim::Location at = sim::here()) {
  sim::wgmma_wait(Pending, at);
}
template <int Pending, int R>
void wgmma_wait(float (&)[R], sim::Location at = sim::here()) {
  sim::wgmma_wait(Pending, at);
}
template <int Pending, int R, int S>
void wgmma_wait(float (&)[R], float (&)[S], sim::Location at = sim::here()) {
  sim::wgmma_wait(Pending, at);
}

template <int N, Major TA = K_MAJOR, Major TB = K_MAJOR>
void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d, sim::Location at = sim::here()) {
  sim::wgmma({d, N, sim::Element::bf16, nullptr, a, b, scale_d != 0, TA, TB}, at);
}
template <int N, Major TB = K_MAJOR>
void wgmma_bf16_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d,
                   sim::Location at = sim::here()) {
  sim::wgmma({d, N, sim::Element::bf16, a, 0, b, scale_d != 0, K_MAJOR, TB}, at);
}
template <int N>
void wgmma_e4m3(float (&d)[N / 2], uint64_t a, uint64_t b, int scale_d, sim::Location at = sim::here()) {
  sim::wgmma({d, N, sim::Element::e4m3, nullptr, a, b, scale_d != 0, K_MAJOR, K_MAJOR}, at);
}
template <int N>
void wgmma_e4m3_rs(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, int scale_d,
                   sim::Location at = sim::here()) {
  sim::wgmma({d, N, sim::Element::e4m3, a, 0, b, scale_d != 0, K_MAJOR, K_MAJOR}, at);
}

}  // namespace fsv::ptx
