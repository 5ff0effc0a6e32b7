#include "core/thread_pool.h"

#include <sched.h>

#include <cstdlib>

#include "core/error.h"

namespace fsv {
namespace {

constexpr int kSpins =
    2000;  // a few microseconds: the gap between two ops of a network, not the one between requests

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

int available_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n ? static_cast<int>(n) : 1;
}

ThreadPool::ThreadPool(int threads) : workers_(static_cast<size_t>(threads < 1 ? 1 : threads)) {
  for (int i = 1; i < size(); i++) workers_[i].thread = std::thread([this, i] { loop(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (Worker& w : workers_) {
    if (w.thread.joinable()) w.thread.join();
    std::free(w.buffer);
  }
}

void* ThreadPool::scratch(int worker, size_t bytes) {
  Worker& w = workers_[static_cast<size_t>(worker)];
  if (w.capacity < bytes) {
    const size_t rounded = (bytes + 4095) & ~size_t{4095};
    std::free(w.buffer);
    w.buffer = std::aligned_alloc(64, rounded);
    w.capacity = w.buffer ? rounded : 0;
    if (!w.buffer) throw out_of_memory(static_cast<int64_t>(rounded), -1);
  }
  return w.buffer;
}

void ThreadPool::run(int64_t n, int64_t grain, Call call, const void* context) {
  if (n <= 0) return;
  if (size() == 1 || n <= grain) {  // nothing to share: do not wake anybody
    for (int64_t i = 0; i < n; i += grain) call(context, i, i + grain < n ? i + grain : n, 0);
    return;
  }
  call_ = call;
  context_ = context;
  n_ = n;
  grain_ = grain;
  next_.store(0, std::memory_order_relaxed);
  gate_.store(kOpen, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  work(0);
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int spin = 0;; spin++) {
    const uint32_t inside = gate_.load(std::memory_order_acquire);
    if (inside == 0) return;
    if (spin < kSpins)
      pause();
    else
      gate_.wait(inside, std::memory_order_acquire);
  }
}

void ThreadPool::work(int worker) {
  for (;;) {
    const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (begin >= n_) return;
    call_(context_, begin, begin + grain_ < n_ ? begin + grain_ : n_, worker);
  }
}

void ThreadPool::loop(int worker) {
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; generation_.load(std::memory_order_acquire) == seen; spin++) {
      if (spin < kSpins)
        pause();
      else
        generation_.wait(seen, std::memory_order_acquire);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stop_.load()) return;
    if (!join()) continue;  // came too late
    work(worker);
    leave();
  }
}

bool ThreadPool::join() {
  uint32_t gate = gate_.load(std::memory_order_relaxed);
  while (gate & kOpen)
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire, std::memory_order_relaxed))
      return true;
  return false;
}

void ThreadPool::leave() {
  if (gate_.fetch_sub(1, std::memory_order_acq_rel) == 1) gate_.notify_one();  // closed, and the last
}

}  // namespace fsv
