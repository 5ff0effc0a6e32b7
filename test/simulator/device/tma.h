// Host twins of csrc/cuda/ptx/tma.cuh.
#pragma once

#include "simulator/units.h"

namespace fsv::ptx {

using TensorMap = sim::TensorMap;

inline void tma_prefetch_desc(const TensorMap*) {}

inline void tma_load_1d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0,
                        sim::Location at = sim::here()) {
  const int c[] = {c0};
  sim::tma_load(dst, map, bar, 0, 1, c, at);
}
inline void tma_load_2d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1,
                        sim::Location at = sim::here()) {
  const int c[] = {c0, c1};
  sim::tma_load(dst, map, bar, 0, 2, c, at);
}
inline void tma_load_3d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1, int c2,
                        sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2};
  sim::tma_load(dst, map, bar, 0, 3, c, at);
}
inline void tma_load_4d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1, int c2, int c3,
                        sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2, c3};
  sim::tma_load(dst, map, bar, 0, 4, c, at);
}
inline void tma_load_5d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1, int c2, int c3,
                        int c4, sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2, c3, c4};
  sim::tma_load(dst, map, bar, 0, 5, c, at);
}

inline void tma_load_multicast_1d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, int c0,
                                  sim::Location at = sim::here()) {
  const int c[] = {c0};
  sim::tma_load(dst, map, bar, blocks, 1, c, at);
}
inline void tma_load_multicast_2d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, int c0,
                                  int c1, sim::Location at = sim::here()) {
  const int c[] = {c0, c1};
  sim::tma_load(dst, map, bar, blocks, 2, c, at);
}
inline void tma_load_multicast_3d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, int c0,
                                  int c1, int c2, sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2};
  sim::tma_load(dst, map, bar, blocks, 3, c, at);
}
inline void tma_load_multicast_4d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, int c0,
                                  int c1, int c2, int c3, sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2, c3};
  sim::tma_load(dst, map, bar, blocks, 4, c, at);
}
inline void tma_load_multicast_5d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, int c0,
                                  int c1, int c2, int c3, int c4, sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2, c3, c4};
  sim::tma_load(dst, map, bar, blocks, 5, c, at);
}

inline void tma_store_1d(const TensorMap* map, uint32_t src, int c0, sim::Location at = sim::here()) {
  const int c[] = {c0};
  sim::tma_store(map, src, 1, c, at);
}
inline void tma_store_2d(const TensorMap* map, uint32_t src, int c0, int c1, sim::Location at = sim::here()) {
  const int c[] = {c0, c1};
  sim::tma_store(map, src, 2, c, at);
}
inline void tma_store_3d(const TensorMap* map, uint32_t src, int c0, int c1, int c2,
                         sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2};
  sim::tma_store(map, src, 3, c, at);
}
inline void tma_store_4d(const TensorMap* map, uint32_t src, int c0, int c1, int c2, int c3,
                         sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2, c3};
  sim::tma_store(map, src, 4, c, at);
}
inline void tma_store_5d(const TensorMap* map, uint32_t src, int c0, int c1, int c2, int c3, int c4,
                         sim::Location at = sim::here()) {
  const int c[] = {c0, c1, c2, c3, c4};
  sim::tma_store(map, src, 5, c, at);
}

inline void tma_load_im2col_multicast_5d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks,
                                         int c, int w, int h, int d, int n, uint16_t offset_w,
                                         uint16_t offset_h, uint16_t offset_d,
                                         sim::Location at = sim::here()) {
  const int pixel[] = {c, w, h, d, n};
  const uint16_t offsets[] = {offset_w, offset_h, offset_d};
  sim::tma_load_im2col(dst, map, bar, blocks, pixel, offsets, at);
}
inline void tma_load_im2col_5d(uint32_t dst, const TensorMap* map, uint32_t bar, int c, int w, int h, int d,
                               int n, uint16_t offset_w, uint16_t offset_h, uint16_t offset_d,
                               sim::Location at = sim::here()) {
  tma_load_im2col_multicast_5d(dst, map, bar, 0, c, w, h, d, n, offset_w, offset_h, offset_d, at);
}

}  // namespace fsv::ptx
