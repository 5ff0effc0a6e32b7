// Memory of a card, and the ways between it and the host. Plain cudaMalloc and cudaFree: the pool above asks
// rarely, gives back in stream order, and both leave what happens to chance nowhere.
#include <algorithm>
#include <cstring>

#include "cuda/backend.h"

namespace fsv::cuda {
namespace {

constexpr size_t kStaging = size_t{4} << 20;

}  // namespace

void* CudaBackend::allocate(size_t bytes) {
  check(cudaSetDevice(card_.index), "cudaSetDevice");
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaSuccess) return data;
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) return nullptr;
  throw failure(error, "allocate");
}

void CudaBackend::release(void* data, size_t) {
  check(cudaSetDevice(card_.index), "cudaSetDevice");
  check(cudaFree(data), "release");
}

void CudaBackend::copy_in(void* to, const void* host, size_t bytes) {
  if (!staging_)
    check(cudaHostAlloc(reinterpret_cast<void**>(&staging_), kStaging, cudaHostAllocDefault), "staging");
  for (size_t at = 0; at < bytes; at += kStaging) {
    const size_t size = std::min(kStaging, bytes - at);
    synchronize();
    std::memcpy(staging_, static_cast<const char*>(host) + at, size);
    check(cudaMemcpyAsync(static_cast<char*>(to) + at, staging_, size, cudaMemcpyHostToDevice, stream_),
          "copy_in");
  }
}

void CudaBackend::copy_out(void* host, const void* from, size_t bytes) {
  if (!staging_)
    check(cudaHostAlloc(reinterpret_cast<void**>(&staging_), kStaging, cudaHostAllocDefault), "staging");
  for (size_t at = 0; at < bytes; at += kStaging) {
    const size_t size = std::min(kStaging, bytes - at);
    check(
        cudaMemcpyAsync(staging_, static_cast<const char*>(from) + at, size, cudaMemcpyDeviceToHost, stream_),
        "copy_out");
    synchronize();
    std::memcpy(static_cast<char*>(host) + at, staging_, size);
  }
}

void CudaBackend::copy(void* to, const void* from, size_t bytes) {
  if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copy");
}

}  // namespace fsv::cuda
