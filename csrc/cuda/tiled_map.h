// What a tensor map says, apart from the driver that encodes it (tensor_map.h): plans make these, on any
// host.
#pragma once

#include <array>
#include <cstdint>

#include "core/dtype.h"
#include "cuda/ptx/layout.cuh"

namespace fsv::cuda {

/// A dense or strided box of global memory and the tile that one load or store moves. Elements outside read
/// as zero and are not written. Sizes in elements, `strides` in bytes, of dimension 1 and up: multiples
/// of 16. Swizzled tiles are exactly one swizzle span wide.
struct TiledMap {
  DType dtype;
  const void* data;  ///< 16-byte aligned
  int rank;          ///< 1 to 5
  std::array<int64_t, 5> dims = {};
  std::array<int64_t, 4> strides = {};
  std::array<int, 5> box = {};
  ptx::Swizzle swizzle = ptx::SW_NONE;
  /// Elements from one that is moved to the next, 1 to 8; 1 for dimension 0. The box counts those that are
  /// moved, and box * steps is 256 at most.
  std::array<int, 5> steps = {1, 1, 1, 1, 1};
};

}  // namespace fsv::cuda
