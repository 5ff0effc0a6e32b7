// Normal numbers of core/random.h, four of them to a thread.
#pragma once

#include "core/random.h"
#include "cuda/kernels/pack.cuh"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

struct RandnTask {
  uint64_t seeds[kMaxStates];
  uint64_t stream, first;  ///< first group of four
  int64_t elements;        ///< of a sample
  void* out;               ///< [samples, elements]
  bool vector;             ///< every group of four that is whole is aligned
};

/// A sample to a y of the grid.
template <class T>
FSV_KERNEL void FSV_BOUNDS(256, 4) randn(RandnTask task) {
  T* out = static_cast<T*>(task.out) + int64_t{blockIdx.y} * task.elements;
  const int64_t step = int64_t{gridDim.x} * blockDim.x * 4;
  FSV_ROLLED
  for (int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * 4; i < task.elements; i += step) {
    float numbers[4];
    normal4(task.seeds[blockIdx.y], task.stream, task.first + static_cast<uint64_t>(i) / 4, numbers);
    const int64_t left = task.elements - i;
    if (task.vector && left >= 4)
      store(out + i, numbers);
    else
      for (int n = 0; n < 4 && n < left; n++) ptx::stg(out + i + n, narrowed<T, 1>(numbers + n).elements[0]);
  }
}

}  // namespace fsv::cuda::kernels
