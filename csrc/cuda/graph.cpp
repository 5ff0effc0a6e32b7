#include "cuda/graph.h"

#include <cstring>

#include "cuda/backend.h"

namespace fsv::cuda {
namespace {

constexpr double kPartSeconds = 0.02;  // as they are estimated

}  // namespace

std::unique_ptr<Recording> CudaBackend::record(const std::vector<Step>& steps, OpStats* total) {
  return std::make_unique<GraphRecording>(*this, steps, total);
}

GraphRecording::GraphRecording(CudaBackend& backend, const std::vector<Step>& steps, OpStats* total)
    : backend_(backend), total_(total) {
  backend_.recording_ = this;
  try {
    const Step* begin = steps.data();
    const Step* const last = begin + steps.size();
    double seconds = 0;
    for (const Step* step = begin; step != last; step++) {
      seconds += backend_.card_.seconds(step->cost);
      if (seconds < kPartSeconds && step + 1 != last) continue;
      capture(begin, step + 1, seconds);
      begin = step + 1;
      seconds = 0;
    }
  } catch (...) {
    backend_.recording_ = nullptr;
    release();
    throw;
  }
  backend_.recording_ = nullptr;
}

GraphRecording::~GraphRecording() { release(); }

void GraphRecording::release() {
  cudaSetDevice(backend_.card_.index);
  cudaStreamSynchronize(backend_.stream_);  // replays may still run
  for (const Part& part : parts_) cudaGraphExecDestroy(part.graph);
  for (void* data : constants_) cudaFreeHost(data);
  cudaGetLastError();
}

void GraphRecording::capture(const Step* begin, const Step* end, double seconds) {
  const char* name = "graph";
  backend_.attempt(name, [&] {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(backend_.stream_, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    try {
      for (const Step* step = begin; step != end; step++) {
        name = step->name;
        step->work();
      }
    } catch (const Error& error) {
      cudaStreamEndCapture(backend_.stream_, &graph);
      if (graph) cudaGraphDestroy(graph);
      throw Error(error.code, text(name, " cannot be recorded: ", error.what()));
    }
    check(cudaStreamEndCapture(backend_.stream_, &graph), text("recording up to ", name));
    cudaGraphExec_t exec = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "cudaGraphInstantiate");
    parts_.push_back({exec, seconds});
  });
}

void GraphRecording::replay(const std::function<bool()>& cancelled) {
  for (const Part& part : parts_) {
    if (cancelled()) return;
    backend_.attempt("graph", [&] {
      backend_.timeline_->begin("graph", part.seconds, &total_->nanoseconds);
      check(cudaGraphLaunch(part.graph, backend_.stream_), "cudaGraphLaunch");
      backend_.timeline_->end();
    });
  }
}

void GraphRecording::copy_in(void* to, const void* host, size_t bytes) {
  void* constant = nullptr;
  check(cudaHostAlloc(&constant, bytes, cudaHostAllocDefault), "pinned memory");
  constants_.push_back(constant);
  std::memcpy(constant, host, bytes);
  check(cudaMemcpyAsync(to, constant, bytes, cudaMemcpyHostToDevice, backend_.stream_), "cudaMemcpyAsync");
}

}  // namespace fsv::cuda
