// How an op starts a kernel.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "cuda/error.h"

namespace fsv::cuda {

struct LaunchShape {
  dim3 grid, block;
  size_t smem = 0;       ///< bytes of dynamic shared memory
  unsigned cluster = 1;  ///< blocks of a cluster, along x
  bool overlap =
      false;  ///< may start while the kernel before it ends: it calls griddepcontrol.wait before it reads
};

/// Blocks that cover `items`.
constexpr unsigned blocks(int64_t items, int64_t a_block) {
  return static_cast<unsigned>((items + a_block - 1) / a_block);
}

/// Whether 16-byte accesses may start here. Tensors lie on 512 bytes, views of them anywhere.
inline bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

/// Lets a kernel use as much dynamic shared memory as the card has. Once for each kernel and device.
void allow_shared_memory(const void* kernel);

/// An empty grid is no launch.
template <class... Parameters, class... Arguments>
void launch(cudaStream_t stream, void (*kernel)(Parameters...), const LaunchShape& shape,
            Arguments&&... arguments) {
  if (!shape.grid.x || !shape.grid.y || !shape.grid.z) return;
  constexpr size_t kAlwaysAllowed = 48 << 10;
  if (shape.smem > kAlwaysAllowed) allow_shared_memory(reinterpret_cast<const void*>(kernel));
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.smem;
  config.stream = stream;
  config.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = shape.cluster;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  }
  if (shape.overlap) {
    cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
  }
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), "launch");
}

}  // namespace fsv::cuda
