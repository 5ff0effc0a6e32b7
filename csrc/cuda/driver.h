// Functions of the CUDA driver, found at run time: linking against it would keep the addon from loading on
// machines without one.
#pragma once

#include <cuda_runtime.h>

#include "cuda/error.h"

namespace fsv::cuda {

/// `version`: of the CUDA release whose signature is meant, 12000 for 12.0. The driver must be there.
template <class Function>
Function driver_function(const char* name, unsigned version) {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  check(cudaGetDriverEntryPointByVersion(name, &address, version, cudaEnableDefault, &found), name);
  if (found != cudaDriverEntryPointSuccess || !address)
    throw Error(code::kUnsupportedDevice, text("the CUDA driver has no ", name, ": it is too old"));
  return reinterpret_cast<Function>(address);
}

}  // namespace fsv::cuda
