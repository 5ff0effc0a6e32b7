// The CUDA runtime of include/cuda_runtime.h: cards whose streams a worker thread executes, kernels on the
// simulator.
// The host cannot touch their memory: it is mapped without access while the worker rests, so that a launch
// which looks into a tensor crashes here too.
//
// The worker starts late on purpose. It leaves what was queued until somebody waits for it, or much has piled
// up, or some time has passed; and it takes streams in random order. So host code that forgets to wait, frees
// too early or relies on an order that only an event could give reads old values here, where a quick GPU
// would often forgive it.
#include "simulator/runtime.h"

#include <cuda.h>
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "cuda/ptx/layout.cuh"
#include "simulator/simulator.h"

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLateness = std::chrono::milliseconds(2);
constexpr size_t kPileUp = 256;
constexpr size_t kPlainSharedMemory = 48 << 10;

struct Card {
  Card(int capability, size_t total) : capability(capability), total(total) {}
  int capability;
  size_t total, used = 0;
  cudaError_t lost = cudaSuccess;  ///< sticky
  std::map<void*, size_t> memory;
};

struct Task {
  std::function<cudaError_t()> run;  ///< or
  CUevent_st* record = nullptr;      ///< with the count that it had when it was queued
  CUevent_st* wait = nullptr;
  uint64_t count = 0;
};

enum class Capture { none, active, invalid };

}  // namespace

struct CUgraph_st {
  std::vector<Task> tasks;
};
struct CUgraphExec_st {
  std::vector<Task> tasks;
  int card;
};
struct CUstream_st {
  int card;
  std::deque<Task> tasks;
  bool running = false;
  Capture capture = Capture::none;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id capturer;
  std::vector<Task> recorded;
};
struct CUevent_st {
  int card;
  uint64_t recorded = 0, done = 0;
  Clock::time_point time;
};

namespace {

thread_local int current_card = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

/// The next of a countdown that tests set: true once, when it has run out.
bool runs_out(std::atomic<int64_t>& countdown) { return countdown >= 0 && countdown-- == 0; }

/// All cards, and the one thread that works for them: kernels share the simulator's shadow memory, so they
/// run one at a time.
class Runtime {
 public:
  static Runtime& get() {
    static Runtime runtime;
    return runtime;
  }

  std::mutex mutex;
  std::condition_variable wake, progress;
  std::vector<Card> cards;
  std::vector<CUstream_st*> streams;
  std::map<const char*, size_t> pinned;
  std::map<const void*, size_t> shared_limits;
  sim::Options options;

  ~Runtime() {
    {
      std::lock_guard lock(mutex);
      stopping_ = true;
    }
    wake.notify_all();
    if (worker_.joinable()) worker_.join();
  }

  /// Of a stream that is captured: keeps the task for the graph.
  cudaError_t push(CUstream_st* stream, Task task) {
    std::lock_guard lock(mutex);
    return push_locked(stream, std::move(task));
  }
  cudaError_t push_locked(CUstream_st* stream, Task task) {
    if (Card& card = cards[stream->card]; card.lost != cudaSuccess) return fail(card.lost);
    if (stream->capture == Capture::invalid) return fail(cudaErrorStreamCaptureInvalidated);
    if (stream->capture == Capture::active) {
      if (!task.run || runs_out(sim::faults().capture))
        return refuse_capture(stream);  // one stream, no events: all that a step needs
      stream->recorded.push_back(std::move(task));
      return cudaSuccess;
    }
    if (queued_++ == 0) oldest_ = Clock::now();
    stream->tasks.push_back(std::move(task));
    if (!worker_.joinable()) worker_ = std::thread([this] { loop(); });
    wake.notify_all();
    return cudaSuccess;
  }

  cudaError_t refuse_capture(CUstream_st* stream) {
    stream->capture = Capture::invalid;
    return fail(cudaErrorStreamCaptureUnsupported);
  }

  /// A call that a capturing thread must not make, with the mutex held.
  cudaError_t unless_capturing() {
    for (CUstream_st* stream : streams)
      if (stream->capture == Capture::active &&
          (stream->mode == cudaStreamCaptureModeGlobal || (stream->mode == cudaStreamCaptureModeThreadLocal &&
                                                           stream->capturer == std::this_thread::get_id())))
        return refuse_capture(stream);
    return cudaSuccess;
  }

  template <class Predicate>
  cudaError_t wait(int card, Predicate done) {
    std::unique_lock lock(mutex);
    waiting_++;
    wake.notify_all();
    progress.wait(lock, [&] { return done() || cards[card].lost != cudaSuccess; });
    waiting_--;
    return fail(cards[card].lost);
  }

  /// With the mutex held.
  void* map(size_t bytes) {
    void* data = mmap(nullptr, bytes, open_ ? PROT_READ | PROT_WRITE : PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return data == MAP_FAILED ? nullptr : data;
  }

  void let_work_begin() {
    std::lock_guard lock(mutex);
    hurry_ = true;
    wake.notify_all();
  }

 private:
  Runtime() {
    const char* memory = std::getenv("FSVIDEO_SIM_MEMORY");
    const size_t total = memory ? std::strtoull(memory, nullptr, 10) : size_t{64} << 30;
    for (const int capability : {90, 90, 80}) cards.push_back(Card(capability, total));
    if (std::getenv("FSVIDEO_SIM_NO_DRIVER")) sim::faults().no_driver = true;
    options = sim::Options::from_environment();
    if (!std::getenv("FSVIDEO_SIM")) options.schedule = sim::Schedule::warps;
    random_ = options.seed * 2 + 1;
  }

  static bool ready(const CUstream_st& stream) {
    if (stream.running || stream.tasks.empty()) return false;
    const Task& task = stream.tasks.front();
    return !task.wait || task.wait->done >= task.count;
  }

  bool may_start() const {
    return queued_ > 0 && (waiting_ > 0 || hurry_ || queued_ > kPileUp || Clock::now() - oldest_ > kLateness);
  }

  void loop() {
    std::unique_lock lock(mutex);
    while (!stopping_) {
      if (!may_start()) {
        if (queued_ > 0)
          wake.wait_until(lock, oldest_ + kLateness);
        else
          wake.wait(lock);
        continue;
      }
      std::vector<CUstream_st*> candidates;
      for (CUstream_st* stream : streams)
        if (ready(*stream)) candidates.push_back(stream);
      if (candidates.empty()) {  // all wait for events that nobody has recorded
        wake.wait(lock);
        continue;
      }
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      run(lock, *candidates[(random_ >> 33) % candidates.size()]);
    }
  }

  void open_memory(bool open) {
    if (open == open_) return;
    open_ = open;
    for (const Card& card : cards)
      for (const auto& [data, bytes] : card.memory)
        mprotect(data, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

  void run(std::unique_lock<std::mutex>& lock, CUstream_st& stream) {
    Task task = std::move(stream.tasks.front());
    stream.tasks.pop_front();
    queued_--;
    open_memory(true);
    Card& card = cards[stream.card];
    if (task.run && card.lost == cudaSuccess) {
      stream.running = true;
      lock.unlock();
      const cudaError_t error = task.run();
      lock.lock();
      stream.running = false;
      if (error != cudaSuccess) card.lost = error;
    }
    if (task.record) {
      task.record->done = std::max(task.record->done, task.count);
      task.record->time = Clock::now();
    }
    if (queued_ == 0) {
      hurry_ = false;
      open_memory(false);
    }
    progress.notify_all();
  }

  std::thread worker_;
  bool stopping_ = false, hurry_ = false, open_ = false;
  int waiting_ = 0;
  size_t queued_ = 0;
  Clock::time_point oldest_;
  uint64_t random_;
};

Runtime& runtime() { return Runtime::get(); }

bool is_pinned(const void* data, size_t bytes) {
  std::lock_guard lock(runtime().mutex);
  auto at = runtime().pinned.upper_bound(static_cast<const char*>(data));
  if (at == runtime().pinned.begin()) return false;
  --at;
  return static_cast<const char*>(data) + bytes <= at->first + at->second;
}

}  // namespace

namespace sim {

Faults& faults() {
  static Faults faults;
  return faults;
}

namespace {

std::mutex counts_mutex;
Counts counts;

void add(const Report& report) {
  const std::lock_guard lock(counts_mutex);
  counts.launches++;
  counts.read += report.global_read;
  counts.written += report.global_written;
  for (const auto& [line, counter] : report.global)
    counts.sectors += counter.units, counts.least_sectors += counter.least;
  for (const auto& [line, counter] : report.shared)
    counts.wavefronts += counter.units, counts.least_wavefronts += counter.least;
}

}  // namespace

Counts count(bool on) {
  {
    const std::lock_guard lock(runtime().mutex);
    runtime().options.count = on;
  }
  const std::lock_guard lock(counts_mutex);
  return std::exchange(counts, {});
}

void set_card_memory(size_t bytes) {
  std::lock_guard lock(runtime().mutex);
  for (Card& card : runtime().cards) card.total = bytes;
}

void revive_cards() {
  std::lock_guard lock(runtime().mutex);
  for (Card& card : runtime().cards) card.lost = cudaSuccess;
}

cudaError_t enqueue_guard(cudaStream_t stream, void* data, size_t bytes, int state) {
  return runtime().push(stream, {.run = [=] {
                          mark(data, bytes, static_cast<Mark>(state));
                          return cudaSuccess;
                        }});
}

cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* function,
                           std::function<void()> thread) {
  Runtime& r = runtime();
  const dim3 &grid = config.gridDim, &block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (!config.stream) return fail(cudaErrorInvalidResourceHandle);  // the legacy stream is nobody's friend
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || !threads ||
      threads > 1024 || block.z > 64)
    return fail(cudaErrorInvalidValue);
  dim3 cluster(1, 1, 1);
  for (unsigned i = 0; i < config.numAttrs; i++)
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) {
      const auto& d = config.attrs[i].val.clusterDim;
      cluster = {d.x, d.y, d.z};
    }
  if (!cluster.x || !cluster.y || !cluster.z || grid.x % cluster.x || grid.y % cluster.y ||
      grid.z % cluster.z || cluster.x * cluster.y * cluster.z > 8)
    return fail(cudaErrorInvalidValue);
  size_t limit = kPlainSharedMemory;
  {
    std::lock_guard lock(r.mutex);
    if (const auto found = r.shared_limits.find(function); found != r.shared_limits.end())
      limit = found->second;
  }
  if (config.dynamicSmemBytes > limit) return fail(cudaErrorInvalidValue);
  auto run = [grid, block, cluster, smem = static_cast<uint32_t>(config.dynamicSmemBytes),
              thread = std::move(thread)] {
    if (runs_out(faults().launch)) return cudaErrorIllegalAddress;
    std::this_thread::sleep_for(std::chrono::microseconds(faults().launch_microseconds));
    Options options = runtime().options;
    options.seed += static_cast<uint64_t>(++faults().launched);
    const Report report = launch(grid, block, cluster, smem, options, thread);
    if (options.count) add(report);
    if (report.ok()) return cudaSuccess;
    std::fprintf(stderr, "simulator: %s\n", report.first().c_str());
    return cudaErrorLaunchFailure;
  };
  return r.push(config.stream, {.run = std::move(run)});
}

}  // namespace sim

// ---- errors and devices
// ----------------------------------------------------------------------------------------------------

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

// ---- memory
// ----------------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** data, size_t bytes) {
  Runtime& r = runtime();
  std::lock_guard lock(r.mutex);
  if (const cudaError_t error = r.unless_capturing(); error != cudaSuccess) return error;
  Card& card = r.cards[static_cast<size_t>(current_card)];
  if (card.lost != cudaSuccess) return fail(card.lost);
  if (runs_out(sim::faults().allocation) || card.used + bytes > card.total)
    return fail(cudaErrorMemoryAllocation);
  *data = r.map(bytes);
  if (!*data) return fail(cudaErrorMemoryAllocation);
  sim::adopt(*data, bytes);
  card.used += bytes;
  card.memory[*data] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (!data) return cudaSuccess;
  Runtime& r = runtime();
  const int device = current_card;
  {
    std::lock_guard lock(r.mutex);
    if (const cudaError_t error = r.unless_capturing(); error != cudaSuccess) return error;
  }
  const cudaError_t error = r.wait(device, [&] {
    for (const CUstream_st* stream : r.streams)
      if (stream->card == device && (stream->running || !stream->tasks.empty())) return false;
    return true;
  });
  std::lock_guard lock(r.mutex);
  Card& card = r.cards[static_cast<size_t>(device)];
  const auto found = card.memory.find(data);
  if (found == card.memory.end()) return fail(cudaErrorInvalidValue);
  sim::forget(data);
  munmap(data, found->second);
  card.used -= found->second;
  card.memory.erase(found);
  return error;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard lock(runtime().mutex);
  const Card& card = runtime().cards[static_cast<size_t>(current_card)];
  if (card.lost != cudaSuccess) return fail(card.lost);
  *free = card.total - std::min(card.total, card.used);
  *total = card.total;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  *data = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  std::lock_guard lock(runtime().mutex);
  runtime().pinned[static_cast<const char*>(*data)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  {
    std::lock_guard lock(runtime().mutex);
    if (runtime().pinned.erase(static_cast<const char*>(data)) == 0) return fail(cudaErrorInvalidValue);
  }
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const bool reads_device = kind != cudaMemcpyHostToDevice, writes_device = kind != cudaMemcpyDeviceToHost;
  if ((reads_device && !sim::is_allocated(from, bytes)) || (writes_device && !sim::is_allocated(to, bytes)))
    return fail(cudaErrorInvalidValue);
  const void* host = reads_device ? to : from;
  const bool pageable = kind != cudaMemcpyDeviceToDevice && !is_pinned(host, bytes);
  // Pageable memory is staged: what is copied in is read before the call returns, what is copied out is there
  // when it does.
  std::shared_ptr<char[]> staged;
  if (pageable && writes_device) {
    staged.reset(new char[bytes]);
    std::memcpy(staged.get(), from, bytes);
  }
  auto copy = [to, from, bytes, staged, writes_device] {
    std::memcpy(to, staged ? staged.get() : from, bytes);
    if (writes_device) sim::mark_initialised(to, bytes);
    return cudaSuccess;
  };
  const cudaError_t error = runtime().push(stream, {.run = std::move(copy)});
  return error != cudaSuccess || !pageable || writes_device ? error : cudaStreamSynchronize(stream);
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  if (!sim::is_allocated(data, bytes)) return fail(cudaErrorInvalidValue);
  return runtime().push(stream, {.run = [=] {
                          std::memset(data, value, bytes);
                          sim::mark_initialised(data, bytes);
                          return cudaSuccess;
                        }});
}

// ---- streams and events
// ----------------------------------------------------------------------------------------------------

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

// ---- graphs
// ----------------------------------------------------------------------------------------------------------------

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

// ---- the driver
// ------------------------------------------------------------------------------------------------------------

namespace {

/// Does as the driver does with a tensor map that breaks its rules.
template <class Encode>
CUresult encoded(CUtensorMap* map, CUtensorMapDataType type, CUtensorMapSwizzle swizzle, Encode encode) {
  const int size = type == CU_TENSOR_MAP_DATA_TYPE_UINT8     ? 1
                   : type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4
                                                             : 2;
  constexpr int kSwizzles[] = {fsv::ptx::SW_NONE, fsv::ptx::SW_32, fsv::ptx::SW_64, fsv::ptx::SW_128};
  try {
    *map = encode(size, kSwizzles[swizzle]);
    return CUDA_SUCCESS;
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "simulator: %s\n", error.what());
    return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return encoded(map, type, swizzle, [&](int size, int mode) {
    return sim::encode_tiled(base, size, {dims, dims + rank}, {strides, strides + rank - 1},
                             {box, box + rank}, mode, {element_strides, element_strides + rank});
  });
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                                 const cuuint64_t* dims, const cuuint64_t* strides, const int* lower_corner,
                                 const int* upper_corner, cuuint32_t channels, cuuint32_t pixels,
                                 const cuuint32_t* element_strides, CUtensorMapInterleave,
                                 CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                 CUtensorMapFloatOOBfill) {
  return encoded(map, type, swizzle, [&](int size, int mode) {
    const cuuint32_t spatial = rank - 2;
    return sim::encode_im2col(base, size, {dims, dims + rank}, {strides, strides + rank - 1},
                              {lower_corner, lower_corner + spatial}, {upper_corner, upper_corner + spatial},
                              static_cast<int>(channels), static_cast<int>(pixels), mode,
                              {element_strides, element_strides + rank});
  });
}

CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned) {
  const cudaError_t error = runtime().push(stream, {.run = [=] {
                                             reinterpret_cast<std::atomic<uint32_t>*>(address)->store(value);
                                             return cudaSuccess;
                                           }});
  return error == cudaSuccess ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult* result) {
  static const std::map<std::string, void*> symbols = {
      {"cuTensorMapEncodeTiled", reinterpret_cast<void*>(&cuTensorMapEncodeTiled)},
      {"cuTensorMapEncodeIm2col", reinterpret_cast<void*>(&cuTensorMapEncodeIm2col)},
      {"cuStreamWriteValue32", reinterpret_cast<void*>(&cuStreamWriteValue32)},
  };
  const auto found = symbols.find(symbol);
  *function = found == symbols.end() ? nullptr : found->second;
  if (result) *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return sim::faults().no_driver ? fail(cudaErrorInsufficientDriver) : cudaSuccess;
}
