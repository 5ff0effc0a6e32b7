// The threads inside one op. The caller (the device's executor thread) works too, as worker 0; the others
// sleep between ops after a short spin, so that an idle device costs nothing and Node's own threads are not
// starved. Ranges are claimed dynamically, so which worker computes what varies; results must not depend on
// it. Workers join an op when they have woken up, through a gate that the caller closes when no range is
// left: it waits for those inside, never for one that the system has yet to find a processor for.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace fsv {

/// Processors that the affinity mask (or a container's cpuset) allows.
int available_processors();

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()); }

  /// Calls body(begin, end, worker) on ranges of at most `grain` items that cover [0, n), and returns when
  /// all are done. `body` must not throw and not call parallel_for.
  template <class Body>
  void parallel_for(int64_t n, int64_t grain, const Body& body) {
    run(
        n, grain < 1 ? 1 : grain,
        [](const void* context, int64_t begin, int64_t end, int worker) {
          (*static_cast<const Body*>(context))(begin, end, worker);
        },
        &body);
  }

  /// A 64-byte aligned buffer of the worker's own, kept and grown from op to op. Contents are undefined. Call
  /// it inside the body with the worker's number. Throws ERR_FSVIDEO_OUT_OF_MEMORY from the op when called
  /// before parallel_for.
  void* scratch(int worker, size_t bytes);

 private:
  using Call = void (*)(const void*, int64_t, int64_t, int);
  struct alignas(64) Worker {
    std::thread thread;
    void* buffer = nullptr;
    size_t capacity = 0;
  };

  void run(int64_t n, int64_t grain, Call call, const void* context);
  void work(int worker);
  bool join();
  void leave();
  void loop(int worker);

  std::vector<Worker> workers_;
  Call call_ = nullptr;
  const void* context_ = nullptr;
  int64_t n_ = 0, grain_ = 1;
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  /// Whether workers may join, and how many are inside.
  static constexpr uint32_t kOpen = uint32_t{1} << 31;
  alignas(64) std::atomic<uint32_t> gate_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace fsv
