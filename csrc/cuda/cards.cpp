#include "cuda/cards.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/error.h"
#include "ops/backend.h"

namespace fsv::cuda {
namespace {

constexpr int kLeastCapability = 80;

std::string version_text(int version) {
  return version ? text(version / 1000, ".", version % 1000 / 10) : std::string();
}

/// How many cards there are; with none, why.
int count_cards(std::string& problem) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0)
    problem = "there is no NVIDIA driver";
  else if (error == cudaErrorInsufficientDriver)
    problem = text("the NVIDIA driver is for CUDA ", version_text(driver), ", older than this build's ",
                   version_text(CUDART_VERSION));
  else
    problem =
        error == cudaSuccess || error == cudaErrorNoDevice ? "there is no card" : cudaGetErrorString(error);
  return 0;
}

cudaDeviceProp properties_of(int index) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties;
}

}  // namespace

double Card::seconds(const Cost& cost) const {
#ifdef FSV_SIMULATOR
  constexpr double kFlopsAProcessor = 1e8, kBytesAProcessor = 1e7, kLeast = 1e-3;
#else
  constexpr double kFlopsAProcessor = 1e12, kBytesAProcessor = 8e9, kLeast = 3e-6;
#endif
  return std::max(kLeast,
                  std::max(cost.flops / kFlopsAProcessor, cost.bytes / kBytesAProcessor) / processors);
}

Card card_at(int index) {
  std::string problem;
  const int count = count_cards(problem);
  if (count == 0) throw Error(code::kNoDevice, text("there is no device cuda:", index, " here: ", problem));
  if (index >= count)
    throw Error(code::kNoDevice,
                text("there is no device cuda:", index, " here: they are cuda:0 to cuda:", count - 1));
  const cudaDeviceProp properties = properties_of(index);
  Card card;
  card.name = properties.name;
  card.index = index;
  card.capability = 10 * properties.major + properties.minor;
  card.processors = properties.multiProcessorCount;
  card.shared_bytes = properties.sharedMemPerBlockOptin;
  card.total_bytes = properties.totalGlobalMem;
  if (card.capability < kLeastCapability)
    throw Error(code::kUnsupportedDevice, text(card.name, " has compute capability ", properties.major, ".",
                                               properties.minor, "; 8.0 and newer are supported"));
  return card;
}

}  // namespace fsv::cuda

namespace fsv {

Gpus list_gpus() {
  Gpus gpus;
  const int count = cuda::count_cards(gpus.problem);
  int version = 0;
  cudaRuntimeGetVersion(&version);
  gpus.runtime = cuda::version_text(version);
  version = 0;
  cudaDriverGetVersion(&version);
  gpus.driver = cuda::version_text(version);
  for (int i = 0; i < count; i++) {
    const cudaDeviceProp properties = cuda::properties_of(i);
    Gpu gpu;
    gpu.name = properties.name;
    gpu.capability = text(properties.major, ".", properties.minor);
    gpu.total_bytes = properties.totalGlobalMem;
    size_t total = 0;
    if (cudaSetDevice(i) == cudaSuccess) cudaMemGetInfo(&gpu.free_bytes, &total);
    cudaGetLastError();
    gpus.list.push_back(gpu);
  }
  return gpus;
}

}  // namespace fsv
