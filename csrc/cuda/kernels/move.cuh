// Ops that only move elements: rows of units as wide as addresses and steps allow, and planes whose two axes
// change places.
#pragma once

#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/sheet.cuh"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

/// What moves at once: 1 to 16 bytes.
template <int Bytes>
using Unit = Pack<uint8_t, Bytes>;

/// An axis of a copy; steps in units (or elements) from one index to the next.
struct Axis {
  int64_t size = 1, from_step = 0, to_step = 0;
};

/// Planes of rows x columns with `outer` axes above them, outermost first.
struct CopyTask {
  const void* from;
  void* to;
  Axis outer[kMaxRank] = {};
  int outer_count;
  int64_t planes;
  Axis rows = {}, columns = {};
};

/// from and to of the plane: its number is taken apart once for all that a block moves of it.
struct Places {
  int64_t from = 0, to = 0;
};
FSV_DEVICE Places place_of(const CopyTask& task, int64_t plane) {
  Places at;
  for (int a = task.outer_count - 1; a >= 0; a--) {
    const Axis& axis = task.outer[a];
    const int64_t rest = plane / axis.size, index = plane - rest * axis.size;
    at.from += index * axis.from_step, at.to += index * axis.to_step;
    plane = rest;
  }
  return at;
}

/// Rows whose units lie together on both sides. A plane to a z of the grid.
template <int Bytes>
FSV_KERNEL void FSV_BOUNDS(256, 4) copy_rows(CopyTask task) {
  const auto* from = static_cast<const Unit<Bytes>*>(task.from);
  auto* to = static_cast<Unit<Bytes>*>(task.to);
  FSV_ROLLED
  for (int64_t plane = blockIdx.z; plane < task.planes; plane += gridDim.z) {
    const Places at = place_of(task, plane);
    each_row(task.rows.size, [&](int64_t row) {
      each_column(task.columns.size, [&](int64_t column) {
        ptx::stg(to + (at.to + row * task.rows.to_step + column),
                 ptx::ldg(from + (at.from + row * task.rows.from_step + column)));
      });
    });
  }
}

inline constexpr int kSquare = 64;  ///< elements of a transposed square's side
inline constexpr int kSquareThreads = 256;
/// A word an element, whatever its size, in rows of an odd number of words: neither way of reading a square
/// has two lanes in one bank.
inline constexpr int kSquareShared = kSquare * (kSquare + 1) * 4;

/// Planes where the rows lie together in `from` (step 1) and the columns in `to`: squares pass through shared
/// memory, so that both sides are touched in runs.
template <int Bytes>
FSV_KERNEL void FSV_BOUNDS(kSquareThreads, 4) transpose(CopyTask task) {
  const auto* from = static_cast<const Unit<Bytes>*>(task.from);
  auto* to = static_cast<Unit<Bytes>*>(task.to);
  const uint32_t square = ptx::smem_base();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const auto word = [&](int row, int column) {
    return square + static_cast<uint32_t>(row * (kSquare + 1) + column) * 4;
  };
  const int64_t squares_down = (task.rows.size + kSquare - 1) / kSquare,
                squares_along = (task.columns.size + kSquare - 1) / kSquare;
  const int64_t squares = task.planes * squares_down * squares_along;
  FSV_ROLLED
  for (int64_t i = blockIdx.x; i < squares; i += gridDim.x) {
    const int64_t plane = i / (squares_down * squares_along),
                  in_plane = i - plane * squares_down * squares_along;
    const int64_t down = in_plane / squares_along;
    const int64_t row = down * kSquare, column = (in_plane - down * squares_along) * kSquare;
    const int rows = static_cast<int>(task.rows.size - row < kSquare ? task.rows.size - row : kSquare);
    const int columns =
        static_cast<int>(task.columns.size - column < kSquare ? task.columns.size - column : kSquare);
    const Places at = place_of(task, plane);
    const auto* source = from + (at.from + row + column * task.columns.from_step);
    auto* target = to + (at.to + row * task.rows.to_step + column);
    for (int c = warp; c < columns; c += kSquareThreads / 32)
      for (int r = lane; r < rows; r += 32) {
        const Unit<Bytes> unit = ptx::ldg(source + (c * task.columns.from_step + r));
        uint32_t wide = 0;
        std::memcpy(&wide, &unit, Bytes);
        ptx::sts(word(r, c), wide);
      }
    ptx::syncthreads();
    for (int r = warp; r < rows; r += kSquareThreads / 32)
      for (int c = lane; c < columns; c += 32) {
        const uint32_t wide = ptx::lds<uint32_t>(word(r, c));
        Unit<Bytes> unit;
        std::memcpy(&unit, &wide, Bytes);
        ptx::stg(target + (r * task.rows.to_step + c), unit);
      }
    ptx::syncthreads();
  }
}

struct EmbeddingTask {
  const void* table;   ///< [vocabulary, units]
  const int32_t* ids;  ///< [rows]
  void* out;           ///< [rows, units]
  int64_t vocabulary, rows, units;
  uint32_t nan;  ///< a word of NaNs of the table's type
};

template <int Bytes>
FSV_KERNEL void FSV_BOUNDS(256, 4) embedding(EmbeddingTask task) {
  const auto* table = static_cast<const Unit<Bytes>*>(task.table);
  auto* out = static_cast<Unit<Bytes>*>(task.out);
  each_row(task.rows, [&](int64_t row) {
    const int64_t id = ptx::ldg(task.ids + row);
    const bool known = id >= 0 && id < task.vocabulary;
    each_column(task.units, [&](int64_t column) {
      Unit<Bytes> unit;
      if (known)
        unit = ptx::ldg(table + (id * task.units + column));
      else
        for (int i = 0; i < Bytes; i++) unit.elements[i] = static_cast<uint8_t>(task.nan >> (i % 4 * 8));
      ptx::stg(out + (row * task.units + column), unit);
    });
  });
}

}  // namespace fsv::cuda::kernels
