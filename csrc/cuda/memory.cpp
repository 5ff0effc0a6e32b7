// Memory of a card, and the ways between it and the host. Plain cudaMalloc and cudaFree: the pool above asks
// rarely and gives back in stream order.
#include "cuda/backend.h"
#include "cuda/graph.h"

namespace fsv::cuda {

void* CudaBackend::allocate(size_t bytes) {
  use_card();
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaSuccess) return data;
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) return nullptr;
  // An allocation has no other way to fail: this is what happened to the card before.
  throw Error(code::kDeviceLost, failure(error, text(card_.name, " is lost: cudaMalloc")).what());
}

void CudaBackend::release(void* data, size_t) {
  cudaSetDevice(card_.index);
  cudaFree(data);  // of a card that is lost, nothing can be had back, and nobody can help it
  cudaGetLastError();
}

int64_t CudaBackend::free_bytes() const {
  size_t free = 0, total = 0;
  if (cudaSetDevice(card_.index) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess)
    return static_cast<int64_t>(free);
  cudaGetLastError();
  return -1;
}

void CudaBackend::copy_in(void* to, const void* host, size_t bytes) {
  if (recording_)
    recording_->copy_in(to, host, bytes);
  else
    staging_->upload(stream_, to, host, bytes);
}

void CudaBackend::copy_out(void* host, const void* from, size_t bytes) {
  staging_->download(stream_, host, from, bytes);
}

void CudaBackend::copy(void* to, const void* from, size_t bytes) {
  if (bytes) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "cudaMemcpyAsync");
}

}  // namespace fsv::cuda
