#include "cuda/timeline.h"

#include "cuda/driver.h"
#include "cuda/error.h"

namespace fsv::cuda {
namespace {

constexpr double kMostAhead = 0.03;  // seconds, as they are estimated

}  // namespace

Timeline::Timeline(cudaStream_t stream)
    : stream_(stream),
      write_value_(driver_function<decltype(&cuStreamWriteValue32)>("cuStreamWriteValue32", 12000)) {
  for (Mark& mark : marks_) {
    check(cudaEventCreateWithFlags(&mark.start, cudaEventBlockingSync), "cudaEventCreate");
    check(cudaEventCreateWithFlags(&mark.end, cudaEventBlockingSync), "cudaEventCreate");
  }
  void* word = nullptr;
  check(cudaHostAlloc(&word, sizeof(uint32_t), cudaHostAllocMapped), "pinned memory");
  done_ = static_cast<uint32_t*>(word);
  *done_ = 0;
}

Timeline::~Timeline() {
  for (const Mark& mark : marks_) {
    cudaEventDestroy(mark.start);
    cudaEventDestroy(mark.end);
  }
  cudaFreeHost(const_cast<uint32_t*>(done_));
}

void Timeline::begin(const char* name, double seconds, std::atomic<int64_t>* nanoseconds) {
  while (next_ > first_ && (next_ - first_ == marks_.size() || ahead_ + seconds > kMostAhead))
    finish_oldest();
  Mark& mark = this->mark(next_);
  mark.name = name;
  mark.nanoseconds = nanoseconds;
  mark.seconds = seconds;
  check(cudaEventRecord(mark.start, stream_), name);
}

void Timeline::end() {
  const Mark& mark = this->mark(next_);
  check(cudaEventRecord(mark.end, stream_), mark.name);
  ahead_ += mark.seconds;
  next_++;
  // Where a driver cannot, a fault is known less exactly, which is no reason to fail.
  write_value_(stream_, reinterpret_cast<CUdeviceptr>(done_), static_cast<uint32_t>(next_), 0);
}

void Timeline::finish_oldest() {
  const Mark& mark = this->mark(first_);
  check(cudaEventSynchronize(mark.end), mark.name);
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, mark.start, mark.end), mark.name);
  if (mark.nanoseconds) *mark.nanoseconds += static_cast<int64_t>(milliseconds * 1e6);
  ahead_ -= mark.seconds;
  first_++;
}

void Timeline::finish() {
  while (first_ < next_) finish_oldest();
}

std::string Timeline::culprit() const {
  // The card counts in 32 bits.
  const uint64_t done = next_ - static_cast<uint32_t>(static_cast<uint32_t>(next_) - *done_);
  if (done >= first_) return mark(done).name;
  std::string names;
  for (uint64_t i = first_; i < next_; i++) names += text(i == first_ ? "one of " : ", ", mark(i).name);
  return names;
}

}  // namespace fsv::cuda
