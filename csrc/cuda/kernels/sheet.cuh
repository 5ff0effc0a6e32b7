// Sheets: rows x columns (of packs), over blocks of columns x rows. The block's x and the grid's y count
// columns, the block's y and the grid's x count rows, the grid's z whatever a sheet is one of. A thread that
// enters a column keeps what belongs to it, its part of a vector for one, while it walks down the rows.
#pragma once

#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

/// body(column) for the thread's columns.
template <class Body>
FSV_DEVICE void each_column(int64_t columns, const Body& body) {
  const int64_t step = int64_t{gridDim.y} * blockDim.x;
  FSV_ROLLED
  for (int64_t c = int64_t{blockIdx.y} * blockDim.x + threadIdx.x; c < columns; c += step) body(c);
}

/// body(row) for the thread's rows.
template <class Body>
FSV_DEVICE void each_row(int64_t rows, const Body& body) {
  const int64_t step = int64_t{gridDim.x} * blockDim.y;
  for (int64_t r = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; r < rows; r += step) body(r);
}

}  // namespace fsv::cuda::kernels
