// Scales of fp8 numbers (ops/ops.h): one for kScaleGroup channels of a row.
#pragma once

#include "core/dtype.h"
#include "cuda/ptx/ptx.cuh"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

/// The scale of numbers of which the largest has this magnitude.
FSV_DEVICE float fp8_scale(float largest) { return largest == 0 ? 1.0f : largest / kF8e4m3Max; }

/// The largest value among 2, 4, ... 32 neighbouring lanes.
template <int kLanes>
FSV_DEVICE float largest_of_lanes(float value) {
  FSV_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2) value = fmaxf(value, ptx::shfl_xor(value, mask));
  return value;
}

}  // namespace fsv::cuda::kernels
