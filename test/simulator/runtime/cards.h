// What the simulated runtime keeps: cards, streams with their tasks, events, graphs, and the thread that
// works for all of them.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "simulator/runtime.h"
#include "simulator/simulator.h"

namespace sim::host {

using Clock = std::chrono::steady_clock;

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

}  // namespace sim::host

struct CUgraph_st {
  std::vector<sim::host::Task> tasks;
};
struct CUgraphExec_st {
  std::vector<sim::host::Task> tasks;
  int card;
};
struct CUstream_st {
  int card;
  std::deque<sim::host::Task> tasks;
  bool running = false;
  sim::host::Capture capture = sim::host::Capture::none;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id capturer;
  std::vector<sim::host::Task> recorded;
};
struct CUevent_st {
  int card;
  uint64_t recorded = 0, done = 0;
  sim::host::Clock::time_point time;
};

namespace sim::host {

extern thread_local int current_card;
extern thread_local cudaError_t last_error;

/// Remembers an error as cudaGetLastError has it.
cudaError_t fail(cudaError_t error);

/// The next of a countdown that tests set: true once, when it has run out.
inline bool runs_out(std::atomic<int64_t>& countdown) { return countdown >= 0 && countdown-- == 0; }

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

  ~Runtime();

  /// Of a stream that is captured: keeps the task for the graph.
  cudaError_t push(CUstream_st* stream, Task task);
  cudaError_t push_locked(CUstream_st* stream, Task task);
  cudaError_t refuse_capture(CUstream_st* stream);

  /// A call that a capturing thread must not make, with the mutex held.
  cudaError_t unless_capturing();

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
  void* map(size_t bytes);

  void let_work_begin();

 private:
  Runtime();

  bool may_start() const;
  void loop();
  void open_memory(bool open);
  void run(std::unique_lock<std::mutex>& lock, CUstream_st& stream);

  std::thread worker_;
  bool stopping_ = false, hurry_ = false, open_ = false;
  int waiting_ = 0;
  size_t queued_ = 0;
  Clock::time_point oldest_;
  uint64_t random_;
};

inline Runtime& runtime() { return Runtime::get(); }

}  // namespace sim::host
