// A kernel for the test of the runner of mutants: sums of neighbours in a block.
#pragma once

#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

FSV_KERNEL void sum_of_neighbours(const float* in, float* out) {
  using namespace fsv::ptx;
  const uint32_t mine = smem_base() + 4 * threadIdx.x;
  sts(mine, ldg(in + threadIdx.x));
  syncthreads();
  const uint32_t next = smem_base() + 4 * ((threadIdx.x + 1) % blockDim.x);
  stg(out + threadIdx.x, lds<float>(mine) + lds<float>(next));
}

}  // namespace fsv::cuda::kernels
