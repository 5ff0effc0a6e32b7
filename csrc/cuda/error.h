// What the CUDA runtime reports, as the one exception of the native code.
#pragma once

#include <cuda_runtime.h>

#include "core/error.h"

namespace fsv::cuda {

/// `what`: the call or the op, for the message.
inline Error failure(cudaError_t error, const std::string& what) {
  return {error == cudaErrorMemoryAllocation ? code::kOutOfMemory : code::kInternal,
          text(what, ": CUDA error ", static_cast<int>(error), ", ", cudaGetErrorString(error))};
}

inline void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it has been reported: the next call must not find it again
  throw failure(error, what);
}

}  // namespace fsv::cuda
