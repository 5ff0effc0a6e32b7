// The worker of the simulated runtime: a thread that executes the streams of all cards.
// The host cannot touch their memory: it is mapped without access while the worker rests, so that a launch
// which looks into a tensor crashes here too.
//
// The worker starts late on purpose. It leaves what was queued until somebody waits for it, or much has piled
// up, or some time has passed; and it takes streams in random order. So host code that forgets to wait, frees
// too early or relies on an order that only an event could give reads old values here, where a quick GPU
// would often forgive it.
#include "simulator/runtime/cards.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace sim::host {
namespace {

constexpr auto kLateness = std::chrono::milliseconds(2);
constexpr size_t kPileUp = 256;

bool ready(const CUstream_st& stream) {
  if (stream.running || stream.tasks.empty()) return false;
  const Task& task = stream.tasks.front();
  return !task.wait || task.wait->done >= task.count;
}

}  // namespace

thread_local int current_card = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

Runtime::~Runtime() {
  {
    std::lock_guard lock(mutex);
    stopping_ = true;
  }
  wake.notify_all();
  if (worker_.joinable()) worker_.join();
}

cudaError_t Runtime::push(CUstream_st* stream, Task task) {
  std::lock_guard lock(mutex);
  return push_locked(stream, std::move(task));
}

cudaError_t Runtime::push_locked(CUstream_st* stream, Task task) {
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

cudaError_t Runtime::refuse_capture(CUstream_st* stream) {
  stream->capture = Capture::invalid;
  return fail(cudaErrorStreamCaptureUnsupported);
}

cudaError_t Runtime::unless_capturing() {
  for (CUstream_st* stream : streams)
    if (stream->capture == Capture::active &&
        (stream->mode == cudaStreamCaptureModeGlobal || (stream->mode == cudaStreamCaptureModeThreadLocal &&
                                                         stream->capturer == std::this_thread::get_id())))
      return refuse_capture(stream);
  return cudaSuccess;
}

void* Runtime::map(size_t bytes) {
  void* data = mmap(nullptr, bytes, open_ ? PROT_READ | PROT_WRITE : PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

void Runtime::let_work_begin() {
  std::lock_guard lock(mutex);
  hurry_ = true;
  wake.notify_all();
}

Runtime::Runtime() {
  const char* memory = std::getenv("FSVIDEO_SIM_MEMORY");
  const size_t total = memory ? std::strtoull(memory, nullptr, 10) : size_t{64} << 30;
  for (const int capability : {90, 90, 80}) cards.push_back(Card(capability, total));
  if (std::getenv("FSVIDEO_SIM_NO_DRIVER")) sim::faults().no_driver = true;
  options = sim::Options::from_environment();
  if (!std::getenv("FSVIDEO_SIM")) options.schedule = sim::Schedule::warps;
  random_ = options.seed * 2 + 1;
}

bool Runtime::may_start() const {
  return queued_ > 0 && (waiting_ > 0 || hurry_ || queued_ > kPileUp || Clock::now() - oldest_ > kLateness);
}

void Runtime::loop() {
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

void Runtime::open_memory(bool open) {
  if (open == open_) return;
  open_ = open;
  for (const Card& card : cards)
    for (const auto& [data, bytes] : card.memory)
      mprotect(data, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void Runtime::run(std::unique_lock<std::mutex>& lock, CUstream_st& stream) {
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

}  // namespace sim::host

namespace sim {

Faults& faults() {
  static Faults faults;
  return faults;
}

void set_card_memory(size_t bytes) {
  std::lock_guard lock(host::runtime().mutex);
  for (host::Card& card : host::runtime().cards) card.total = bytes;
}

void revive_cards() {
  std::lock_guard lock(host::runtime().mutex);
  for (host::Card& card : host::runtime().cards) card.lost = cudaSuccess;
}

}  // namespace sim
