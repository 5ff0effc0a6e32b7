#include "cuda/graph.h"

#include <cstring>

#include "cuda/backend.h"

namespace fsv::cuda {
namespace {

constexpr double kPartSeconds = 0.02;  // as they are estimated

}  // namespace

std::unique_ptr<Recording> CudaBackend::record(const std::vector<Step>& steps, OpStats* total, bool each) {
  return std::make_unique<GraphRecording>(*this, steps, total, each);
}

GraphRecording::GraphRecording(CudaBackend& backend, const std::vector<Step>& steps, OpStats* total,
                               bool each)
    : backend_(backend), total_(total), each_(each) {
  backend_.recording_ = this;
  try {
    const Step* begin = steps.data();
    const Step* const last = begin + steps.size();
    double seconds = 0;
    for (const Step* step = begin; step != last; step++) {
      seconds += backend_.card_.seconds(step->cost);
      if (seconds < kPartSeconds && step + 1 != last) continue;
      capture(begin, step + 1, seconds, static_cast<size_t>(begin - steps.data()));
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
  for (const Part& part : parts_) {
    if (part.graph) cudaGraphExecDestroy(part.graph);
    for (cudaEvent_t event : part.parted.events)
      if (event) cudaEventDestroy(event);
  }
  for (void* data : constants_) cudaFreeHost(data);
  cudaGetLastError();
}

void GraphRecording::capture(const Step* begin, const Step* end, double seconds, size_t first) {
  const char* name = "graph";
  Part& part = parts_.emplace_back(Part{nullptr, seconds, first, {}});
  auto& [events, stats] = part.parted;
  backend_.attempt(name, [&] {
    if (each_) {
      events.resize(static_cast<size_t>(end - begin) + 1);
      for (cudaEvent_t& event : events)
        check(cudaEventCreateWithFlags(&event, cudaEventBlockingSync), "cudaEventCreate");
    }
    const auto pass = [&](size_t number) {
      if (each_)
        check(cudaEventRecordWithFlags(events[number], backend_.stream_, cudaEventRecordExternal), name);
    };
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(backend_.stream_, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    try {
      for (const Step* step = begin; step != end; step++) {
        name = step->name;
        pass(stats.size());
        stats.push_back(step->stats);
        step->work();
      }
      pass(stats.size());
    } catch (const Error& error) {
      cudaStreamEndCapture(backend_.stream_, &graph);
      if (graph) cudaGraphDestroy(graph);
      throw Error(error.code, text(name, " cannot be recorded: ", error.what()));
    }
    check(cudaStreamEndCapture(backend_.stream_, &graph), text("recording up to ", name));
    const cudaError_t error = cudaGraphInstantiate(&part.graph, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "cudaGraphInstantiate");
  });
}

void GraphRecording::replay(const std::function<bool()>& cancelled, const Traced& traced) {
  if (each_)  // the events still hold the times of the replay before
    backend_.attempt("graph", [&] { backend_.timeline_->finish(); });
  for (const Part& part : parts_) {
    if (cancelled()) return;
    backend_.attempt("graph", [&] {
      backend_.timeline_->begin("graph", part.seconds, each_ ? nullptr : &total_->nanoseconds,
                                traced.from(part.first), each_ ? &part.parted : nullptr);
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
