#include "cuda/backend.h"

#include <mutex>
#include <set>

namespace fsv {

std::unique_ptr<Backend> make_cuda_backend(int index) { return std::make_unique<cuda::CudaBackend>(index); }

}  // namespace fsv

namespace fsv::cuda {
namespace {

Card card_at(int index) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  Card card;
  card.name = properties.name;
  card.index = index;
  card.capability = 10 * properties.major + properties.minor;
  card.processors = properties.multiProcessorCount;
  card.shared_bytes = properties.sharedMemPerBlockOptin;
  card.total_bytes = properties.totalGlobalMem;
  return card;
}

}  // namespace

CudaBackend::CudaBackend(int index) : card_(card_at(index)) {
  check(cudaSetDevice(index), "cudaSetDevice");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(card_.index);
  cudaStreamDestroy(stream_);
  cudaFreeHost(staging_);
}

std::string CudaBackend::description() const {
  return text(card_.name, ", sm_", card_.capability, ", ", card_.processors, " SMs");
}

void CudaBackend::run(const char* name, const std::function<void()>& work,
                      std::atomic<int64_t>* nanoseconds) {
  check(cudaSetDevice(card_.index), "cudaSetDevice");
  try {
    Backend::run(name, work, nanoseconds);
  } catch (Error& error) {
    throw Error(error.code, text(name, ": ", error.what()));
  }
}

void CudaBackend::synchronize() { check(cudaStreamSynchronize(stream_), "synchronize"); }

void allow_shared_memory(const void* kernel) {
  static std::mutex mutex;
  static std::set<std::pair<int, const void*>> allowed;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  if (!allowed.insert({device, kernel}).second) return;
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(properties.sharedMemPerBlockOptin)),
        "cudaFuncSetAttribute");
}

}  // namespace fsv::cuda
