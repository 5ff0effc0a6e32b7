#include "cuda/timeline.h"

#include <chrono>

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
  check(cudaEventCreateWithFlags(&anchor_, cudaEventBlockingSync), "cudaEventCreate");
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
  cudaEventDestroy(anchor_);
  cudaFreeHost(const_cast<uint32_t*>(done_));
}

void Timeline::begin(const char* name, double seconds, std::atomic<int64_t>* nanoseconds,
                     const Traced& traced, const Parted* parted) {
  // One mark less than there are: the end of the latest that was finished is what the next is traced from.
  while (next_ > first_ && (next_ - first_ == marks_.size() - 1 || ahead_ + seconds > kMostAhead))
    finish_oldest();
  Mark& mark = this->mark(next_);
  mark.name = name;
  mark.nanoseconds = nanoseconds;
  mark.seconds = seconds;
  mark.traced = traced;
  mark.parted = parted;
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
  Mark& mark = this->mark(first_);
  check(cudaEventSynchronize(mark.end), mark.name);
  const int64_t nanoseconds = between(mark.start, mark.end, mark.name);
  if (mark.nanoseconds) *mark.nanoseconds += nanoseconds;
  if (mark.traced) trace(mark, nanoseconds);
  mark.traced = {};
  ahead_ -= mark.seconds;
  first_++;
}

int64_t Timeline::between(cudaEvent_t from, cudaEvent_t to, const char* name) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, from, to), name);
  return static_cast<int64_t>(static_cast<double>(milliseconds) * 1e6);
}

void Timeline::trace(const Mark& mark, int64_t nanoseconds) {
  clock_ += between(latest_, mark.start, mark.name);
  latest_ = mark.end;
  const int64_t begin = clock_;
  clock_ += nanoseconds;
  if (!mark.parted) {
    mark.traced[0].took(begin, clock_);
    return;
  }
  const auto& [events, stats] = *mark.parted;
  int64_t at = begin + between(mark.start, events[0], mark.name);
  for (size_t i = 0; i < stats.size(); i++) {
    const int64_t took = between(events[i], events[i + 1], mark.name);
    if (stats[i]) stats[i]->nanoseconds += took;
    mark.traced[i].took(at, at + took);
    at += took;
  }
}

void Timeline::anchor() {
  finish();
  check(cudaEventRecord(anchor_, stream_), "trace");
  check(cudaEventSynchronize(anchor_), "trace");
  latest_ = anchor_;
  clock_ = std::chrono::steady_clock::now().time_since_epoch().count();
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
