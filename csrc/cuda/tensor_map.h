// Descriptors of tensors in global memory for TMA. They are made on the host by the driver, which is looked
// up at run time so that the addon loads without one, and go to a kernel as a __grid_constant__ parameter.
// Dimensions are given innermost first.
#pragma once

#include <cuda.h>

#include "cuda/tiled_map.h"

namespace fsv::cuda {

/// Throws ERR_FSVIDEO_INTERNAL where the driver refuses: a plan that asks for what TMA cannot do.
CUtensorMap make(const TiledMap& map);

/// Channels-last activations of a convolution, loaded as columns of pixels: `pixels` positions, `channels` of
/// each, in the order in which the window visits them; positions outside the corners' box read as zero. dims
/// (innermost first) C, W, H, D, N or fewer; corners of the spatial dimensions (W, H, D) as the driver
/// defines them; `strides` of the window, 1 for C and N.
struct Im2colMap {
  DType dtype;
  const void* data;
  int rank;  ///< 3 to 5
  std::array<int64_t, 5> dims;
  std::array<int64_t, 4> strides;
  std::array<int, 3> lower, upper;
  int channels, pixels;
  std::array<int, 5> window_strides = {1, 1, 1, 1, 1};
  ptx::Swizzle swizzle = ptx::SW_NONE;
};
CUtensorMap make(const Im2colMap& map);

}  // namespace fsv::cuda
