// Weights of a convolution into the order of conv_layout.h: a thread an element of the packed weight.
#pragma once

#include "cuda/kernels/conv_layout.h"
#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

inline constexpr int kPackConvThreads = 256;

/// T: uint16_t or float, the bits of an element.
template <class T>
FSV_KERNEL void FSV_BOUNDS(kPackConvThreads, 1)
    pack_conv(FSV_GRID_CONSTANT ConvLayout layout, const T* weight, T* packed) {
  const int64_t threads = int64_t{gridDim.x} * kPackConvThreads;
  for (int64_t i = int64_t{blockIdx.x} * kPackConvThreads + threadIdx.x; i < layout.elements();
       i += threads) {
    const int64_t from = layout.source(i);
    ptx::stg(packed + i, from < 0 ? T{} : ptx::ldg(weight + from));
  }
}

}  // namespace fsv::cuda::kernels
