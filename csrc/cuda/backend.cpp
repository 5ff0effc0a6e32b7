#include "cuda/backend.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

#include "cuda/graph.h"

namespace fsv {

std::unique_ptr<Backend> make_cuda_backend(int index) { return std::make_unique<cuda::CudaBackend>(index); }

}  // namespace fsv

namespace fsv::cuda {
namespace {

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value && std::strcmp(value, "1") == 0;
}

}  // namespace

CudaBackend::CudaBackend(int index) : card_(card_at(index)), one_by_one_(is_set("FSVIDEO_CUDA_SYNC")) {
  use_card();
  const cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  if (error == cudaErrorMemoryAllocation) throw failure(error, card_.name);
  if (error != cudaSuccess)  // a fault of this process before, or of another
    throw Error(code::kDeviceLost, failure(error, text(card_.name, " cannot be used")).what());
  timeline_ = std::make_unique<Timeline>(stream_);
  staging_ = std::make_unique<Staging>();
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(card_.index);
  cudaStreamSynchronize(stream_);
  timeline_.reset();
  staging_.reset();
  cudaStreamDestroy(stream_);
  cudaGetLastError();
}

std::string CudaBackend::description() const {
  return text(card_.name, ", compute capability ", card_.capability / 10, ".", card_.capability % 10, ", ",
              card_.total_bytes >> 20, " MiB");
}

void CudaBackend::use_card() const { check(cudaSetDevice(card_.index), "cudaSetDevice"); }

void CudaBackend::require_alive() const {
  if (const auto lost = lost_.load()) throw *lost;
}

void CudaBackend::attempt(const char* name, const std::function<void()>& body) {
  require_alive();
  try {
    use_card();
    body();
  } catch (const Error& error) {
    cudaGetLastError();
    const cudaError_t state = cudaStreamQuery(stream_);
    if (state == cudaSuccess || state == cudaErrorNotReady) {
      Error named(error.code, text(name, ": ", error.what()));
      named.needed = error.needed;
      named.available = error.available;
      throw named;
    }
    // Reported by whatever call came next, not by the op at fault.
    const std::string culprit = timeline_->culprit();
    Error lost(code::kDeviceLost,
               text(culprit, ": CUDA error ", static_cast<int>(state), ", ", cudaGetErrorString(state), ": ",
                    card_.name, " (", card_.index, ") can do nothing more for this process"));
    lost.field = culprit;
    lost_.store(std::make_shared<const Error>(lost));
    throw lost;
  }
}

void CudaBackend::run(const Step& step, const Traced& traced) {
  attempt(step.name, [&] {
    timeline_->begin(step.name, card_.seconds(step.cost), step.stats ? &step.stats->nanoseconds : nullptr,
                     traced);
    step.work();
    timeline_->end();
    if (one_by_one_) timeline_->finish();
  });
}

void CudaBackend::begin_trace() {
  attempt("trace", [&] { timeline_->anchor(); });
}

void CudaBackend::synchronize() {
  attempt("synchronize", [&] { timeline_->finish(); });
}

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
