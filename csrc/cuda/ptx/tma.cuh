// Copies of boxes of tensors, by tensor map: tiled loads and stores of one to five dimensions, the same to
// several blocks of a cluster at once, and im2col loads. Coordinates count elements, innermost dimension
// first; what lies outside the tensor is read as zeros and not written.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "cuda/ptx/target.cuh"

namespace fsv::ptx {

/// Kernels take it as `FSV_GRID_CONSTANT TensorMap map` and pass on `&map`.
using TensorMap = CUtensorMap;

FSV_DEVICE void tma_prefetch_desc(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// Loads a box to shared memory and reports its bytes, those outside the tensor too, to an mbarrier.
FSV_DEVICE void tma_load_1d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0) {
  asm volatile(
      "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3}], [%2];" ::"r"(dst),
      "l"(map), "r"(bar), "r"(c0)
      : "memory");
}
FSV_DEVICE void tma_load_2d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];" ::"r"(dst),
      "l"(map), "r"(bar), "r"(c0), "r"(c1)
      : "memory");
}
FSV_DEVICE void tma_load_3d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(dst),
      "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
FSV_DEVICE void tma_load_4d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1, int c2,
                            int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(dst),
      "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
FSV_DEVICE void tma_load_5d(uint32_t dst, const TensorMap* map, uint32_t bar, int c0, int c1, int c2, int c3,
                            int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(dst),
      "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

/// Loads a box to the same place in every block of the cluster whose bit is set in `blocks`, and reports the
/// bytes to the mbarrier at the same place in each.
FSV_DEVICE void tma_load_multicast_1d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks,
                                      int c0) {
  asm volatile(
      "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%4}], [%2], %3;" ::"r"(dst),
      "l"(map), "r"(bar), "h"(blocks), "r"(c0)
      : "memory");
}
FSV_DEVICE void tma_load_multicast_2d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks,
                                      int c0, int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%4, %5}], [%2], %3;" ::"r"(dst),
      "l"(map), "r"(bar), "h"(blocks), "r"(c0), "r"(c1)
      : "memory");
}
FSV_DEVICE void tma_load_multicast_3d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks,
                                      int c0, int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(dst),
      "l"(map), "r"(bar), "h"(blocks), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
FSV_DEVICE void tma_load_multicast_4d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks,
                                      int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(dst),
      "l"(map), "r"(bar), "h"(blocks), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
FSV_DEVICE void tma_load_multicast_5d(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks,
                                      int c0, int c1, int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%4, %5, %6, %7, %8}], [%2], %3;" ::"r"(dst),
      "l"(map), "r"(bar), "h"(blocks), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

/// Stores a box from shared memory, in the thread's current bulk group.
FSV_DEVICE void tma_store_1d(const TensorMap* map, uint32_t src, int c0) {
  asm volatile("cp.async.bulk.tensor.1d.global.shared::cta.tile.bulk_group [%0, {%2}], [%1];" ::"l"(map),
               "r"(src), "r"(c0)
               : "memory");
}
FSV_DEVICE void tma_store_2d(const TensorMap* map, uint32_t src, int c0, int c1) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
               "r"(src), "r"(c0), "r"(c1)
               : "memory");
}
FSV_DEVICE void tma_store_3d(const TensorMap* map, uint32_t src, int c0, int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
      "r"(src), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
FSV_DEVICE void tma_store_4d(const TensorMap* map, uint32_t src, int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(src), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
FSV_DEVICE void tma_store_5d(const TensorMap* map, uint32_t src, int c0, int c1, int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];" ::"l"(
          map),
      "r"(src), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

/// Loads channels c.. of the pixels that follow the base pixel (w, h, d, n) within the map's bounding box,
/// each moved by the filter tap's offsets.
FSV_DEVICE void tma_load_im2col_5d(uint32_t dst, const TensorMap* map, uint32_t bar, int c, int w, int h,
                                   int d, int n, uint16_t offset_w, uint16_t offset_h, uint16_t offset_d) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], {%8, %9, %10};" ::"r"(dst),
      "l"(map), "r"(bar), "r"(c), "r"(w), "r"(h), "r"(d), "r"(n), "h"(offset_w), "h"(offset_h), "h"(offset_d)
      : "memory");
}
FSV_DEVICE void tma_load_im2col_multicast_5d(uint32_t dst, const TensorMap* map, uint32_t bar,
                                             uint16_t blocks, int c, int w, int h, int d, int n,
                                             uint16_t offset_w, uint16_t offset_h, uint16_t offset_d) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%4, %5, %6, %7, %8}], [%2], {%9, %10, %11}, %3;" ::"r"(dst),
      "l"(map), "r"(bar), "h"(blocks), "r"(c), "r"(w), "r"(h), "r"(d), "r"(n), "h"(offset_w), "h"(offset_h),
      "h"(offset_d)
      : "memory");
}

}  // namespace fsv::ptx
