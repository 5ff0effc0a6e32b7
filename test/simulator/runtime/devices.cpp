// Errors, and what cards are.
#include <cstdio>
#include <utility>

#include "simulator/runtime/cards.h"

using namespace sim::host;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define NAME(name) \
  case name:       \
    return #name;
    NAME(cudaSuccess)
    NAME(cudaErrorInvalidValue)
    NAME(cudaErrorMemoryAllocation)
    NAME(cudaErrorInsufficientDriver)
    NAME(cudaErrorNoDevice)
    NAME(cudaErrorInvalidDevice)
    NAME(cudaErrorInvalidResourceHandle)
    NAME(cudaErrorNotReady)
    NAME(cudaErrorIllegalAddress)
    NAME(cudaErrorLaunchFailure)
    NAME(cudaErrorNotSupported)
    NAME(cudaErrorStreamCaptureUnsupported)
    NAME(cudaErrorStreamCaptureInvalidated)
#undef NAME
    default:
      return "cudaErrorUnknown";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    default:
      return "an error of the simulated runtime";
  }
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (sim::faults().no_driver) return fail(cudaErrorInsufficientDriver);
  *count = static_cast<int>(runtime().cards.size());
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (sim::faults().no_driver) return fail(cudaErrorInsufficientDriver);
  if (device < 0 || device >= static_cast<int>(runtime().cards.size())) return fail(cudaErrorInvalidDevice);
  current_card = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_card;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= static_cast<int>(runtime().cards.size())) return fail(cudaErrorInvalidDevice);
  const Card& card = runtime().cards[static_cast<size_t>(device)];
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "simulated sm_%d", card.capability);
  properties->totalGlobalMem = card.total;
  properties->sharedMemPerBlockOptin = card.capability >= 90 ? 232448 : 166912;
  // Few, so that persistent kernels take several tiles a block at sizes that the simulator can bear; odd, as
  // half of all cards.
  properties->multiProcessorCount = 6;
  properties->major = card.capability / 10;
  properties->minor = card.capability % 10;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = sim::faults().no_driver ? 0 : 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  const size_t most = r.cards[static_cast<size_t>(current_card)].capability >= 90 ? 232448 : 166912;
  if (value < 0 || static_cast<size_t>(value) > most) return fail(cudaErrorInvalidValue);
  r.shared_limits[function] = static_cast<size_t>(value);
  return cudaSuccess;
}
