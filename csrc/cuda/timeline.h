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

namespace fsv::cuda {

class Timeline {
 public:
  explicit Timeline(cudaStream_t stream);
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  /// Around what is launched for the op `name`, which will take about `seconds`; its time is added to
  /// `nanoseconds`, which may be null. `begin` waits while too much lies ahead.
  void begin(const char* name, double seconds, std::atomic<int64_t>* nanoseconds);
  void end();
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
  };
  Mark& mark(uint64_t number) { return marks_[number % marks_.size()]; }
  const Mark& mark(uint64_t number) const { return marks_[number % marks_.size()]; }
  void finish_oldest();

  cudaStream_t stream_;
  std::array<Mark, 32> marks_;
  uint64_t first_ = 0, next_ = 0;  ///< numbers of the oldest that is not seen to be done, and of the next
  double ahead_ = 0;               ///< seconds of those between
  decltype(&cuStreamWriteValue32) write_value_;
  volatile uint32_t* done_ =
      nullptr;  ///< pinned: the card writes how many are done, and its last word outlives it
};

}  // namespace fsv::cuda
