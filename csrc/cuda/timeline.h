// What has been launched and has not been seen to be done. It keeps the host from running far ahead of the
// card, so that what is aborted ends soon; it takes the times; and when the card faults, it knows which op
// did.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "ops/backend.h"

namespace fsv::cuda {

/// The steps of a graph that events part: step i runs between event i and i + 1.
struct Parted {
  std::vector<cudaEvent_t> events;
  std::vector<OpStats*> stats;  ///< a step each, null for copies
};

class Timeline {
 public:
  explicit Timeline(cudaStream_t stream);
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  /// Around what is launched for the op `name`, which will take about `seconds`; its time is added to
  /// `nanoseconds`, which may be null, and to `traced`. `begin` waits while too much lies ahead. Of a graph
  /// that is `parted`, which must outlive it, every step takes its own time.
  void begin(const char* name, double seconds, std::atomic<int64_t>* nanoseconds, const Traced& traced = {},
             const Parted* parted = nullptr);
  void end();
  /// Waits for all of it, and sets the clock of what is traced from here on: the host's.
  void anchor();
  /// Waits for all of it.
  void finish();
  /// Of a card that has faulted: the op that did, or the ops of which it is one.
  std::string culprit() const;

 private:
  struct Mark {
    cudaEvent_t start = nullptr, end = nullptr;
    const char* name = "";
    std::atomic<int64_t>* nanoseconds = nullptr;
    double seconds = 0;
    Traced traced;
    const Parted* parted = nullptr;
  };
  Mark& mark(uint64_t number) { return marks_[number % marks_.size()]; }
  const Mark& mark(uint64_t number) const { return marks_[number % marks_.size()]; }
  void finish_oldest();
  void trace(const Mark& mark, int64_t nanoseconds);
  /// Nanoseconds on the card from one event to the next, that both have passed.
  static int64_t between(cudaEvent_t from, cudaEvent_t to, const char* name);

  cudaStream_t stream_;
  std::array<Mark, 32> marks_;
  uint64_t first_ = 0, next_ = 0;  ///< numbers of the oldest that is not seen to be done, and of the next
  // What is traced lies on the host's clock by adding up short times: an event knows only differences, as a
  // float.
  cudaEvent_t anchor_ = nullptr, latest_ = nullptr;  ///< `latest_` passed at `clock_`
  int64_t clock_ = 0;
  double ahead_ = 0;  ///< seconds of those between
  decltype(&cuStreamWriteValue32) write_value_;
  volatile uint32_t* done_ =
      nullptr;  ///< pinned: the card writes how many are done, and its last word outlives it
};

}  // namespace fsv::cuda
