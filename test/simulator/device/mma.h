// Host twins of csrc/cuda/ptx/mma.cuh.
#pragma once

#include "simulator/units.h"

namespace fsv::ptx {

inline void ldmatrix_x1(uint32_t (&r)[1], uint32_t row, sim::Location at = sim::here()) {
  sim::matrix_load(r, 1, row, false, at);
}
inline void ldmatrix_x2(uint32_t (&r)[2], uint32_t row, sim::Location at = sim::here()) {
  sim::matrix_load(r, 2, row, false, at);
}
inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t row, sim::Location at = sim::here()) {
  sim::matrix_load(r, 4, row, false, at);
}
inline void ldmatrix_x1_trans(uint32_t (&r)[1], uint32_t row, sim::Location at = sim::here()) {
  sim::matrix_load(r, 1, row, true, at);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], uint32_t row, sim::Location at = sim::here()) {
  sim::matrix_load(r, 2, row, true, at);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row, sim::Location at = sim::here()) {
  sim::matrix_load(r, 4, row, true, at);
}

inline void stmatrix_x1(uint32_t row, uint32_t r0, sim::Location at = sim::here()) {
  sim::matrix_store(&r0, 1, row, false, at);
}
inline void stmatrix_x2(uint32_t row, uint32_t r0, uint32_t r1, sim::Location at = sim::here()) {
  const uint32_t r[] = {r0, r1};
  sim::matrix_store(r, 2, row, false, at);
}
inline void stmatrix_x4(uint32_t row, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3,
                        sim::Location at = sim::here()) {
  const uint32_t r[] = {r0, r1, r2, r3};
  sim::matrix_store(r, 4, row, false, at);
}
inline void stmatrix_x1_trans(uint32_t row, uint32_t r0, sim::Location at = sim::here()) {
  sim::matrix_store(&r0, 1, row, true, at);
}
inline void stmatrix_x2_trans(uint32_t row, uint32_t r0, uint32_t r1, sim::Location at = sim::here()) {
  const uint32_t r[] = {r0, r1};
  sim::matrix_store(r, 2, row, true, at);
}
inline void stmatrix_x4_trans(uint32_t row, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3,
                              sim::Location at = sim::here()) {
  const uint32_t r[] = {r0, r1, r2, r3};
  sim::matrix_store(r, 4, row, true, at);
}

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              sim::Location at = sim::here()) {
  sim::mma(d, a, b, sim::Element::bf16, at);
}
inline void mma_m16n8k32_e4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              sim::Location at = sim::here()) {
  sim::mma(d, a, b, sim::Element::e4m3, at);
}

}  // namespace fsv::ptx
