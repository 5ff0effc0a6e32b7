// Streams, events, and the graphs that are captured from streams.
#include <utility>

#include "simulator/runtime/cards.h"

using namespace sim::host;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  if (const cudaError_t lost = r.cards[static_cast<size_t>(current_card)].lost; lost != cudaSuccess)
    return fail(lost);
  *stream = new CUstream_st{.card = current_card};
  r.streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const cudaError_t error = cudaStreamSynchronize(stream);
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  std::erase(r.streams, stream);
  delete stream;
  return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Runtime& r = runtime();
  {
    std::lock_guard lock(r.mutex);
    if (stream->capture != Capture::none) return r.refuse_capture(stream);
  }
  return r.wait(stream->card, [&] { return !stream->running && stream->tasks.empty(); });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Runtime& r = runtime();
  r.let_work_begin();
  std::lock_guard lock(r.mutex);
  if (r.cards[static_cast<size_t>(stream->card)].lost != cudaSuccess)
    return fail(r.cards[static_cast<size_t>(stream->card)].lost);
  return stream->running || !stream->tasks.empty() ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return runtime().push(stream, {.wait = event, .count = event->recorded});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st{.card = current_card};
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const cudaError_t error = cudaEventSynchronize(event);
  delete event;
  return error;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  if (event->card != stream->card) return fail(cudaErrorInvalidResourceHandle);
  const cudaError_t error = r.push_locked(stream, {.record = event, .count = event->recorded + 1});
  if (error == cudaSuccess) event->recorded++;
  return error;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  if (flags != cudaEventRecordExternal) return fail(cudaErrorInvalidValue);
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  if (event->card != stream->card) return fail(cudaErrorInvalidResourceHandle);
  if (stream->capture == Capture::none) return fail(cudaErrorInvalidValue);
  return r.push_locked(stream, {.run = [event] {  // a node, that each launch of the graph passes
                         std::lock_guard lock(runtime().mutex);
                         event->recorded++;
                         event->done = event->recorded;
                         event->time = Clock::now();
                         return cudaSuccess;
                       }});
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Runtime& r = runtime();
  r.let_work_begin();
  std::lock_guard lock(r.mutex);
  if (const cudaError_t lost = r.cards[static_cast<size_t>(event->card)].lost; lost != cudaSuccess)
    return fail(lost);
  return event->done >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return runtime().wait(event->card, [event] { return event->done >= event->recorded; });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  if (const cudaError_t lost = r.cards[static_cast<size_t>(start->card)].lost; lost != cudaSuccess)
    return fail(lost);
  if (!start->recorded || !end->recorded) return fail(cudaErrorInvalidResourceHandle);
  if (start->done < start->recorded || end->done < end->recorded) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  std::lock_guard lock(runtime().mutex);
  if (stream->capture != Capture::none) return fail(cudaErrorInvalidValue);
  stream->capture = Capture::active;
  stream->mode = mode;
  stream->capturer = std::this_thread::get_id();
  stream->recorded.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::lock_guard lock(runtime().mutex);
  *graph = nullptr;
  const Capture capture = std::exchange(stream->capture, Capture::none);
  if (capture == Capture::none) return fail(cudaErrorInvalidValue);
  if (capture == Capture::invalid) return fail(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::exchange(stream->recorded, {})};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->tasks, current_card};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  // One task: a graph that is let go of while a launch of it is queued is still whole.
  return runtime().push(stream, {.run = [tasks = exec->tasks] {
                          for (const Task& task : tasks)
                            if (const cudaError_t error = task.run(); error != cudaSuccess) return error;
                          return cudaSuccess;
                        }});
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
