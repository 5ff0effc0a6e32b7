// The four lanes of a warp that share two rows of an accumulator, as wgmma m64nN and mma m16n8 leave it.
#pragma once

#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

FSV_DEVICE float quad_max(float x) {
  x = fmaxf(x, ptx::shfl_xor(x, 1));
  return fmaxf(x, ptx::shfl_xor(x, 2));
}

FSV_DEVICE float quad_sum(float x) {
  x += ptx::shfl_xor(x, 1);
  return x + ptx::shfl_xor(x, 2);
}

}  // namespace fsv::cuda::kernels
