#include "core/queue.h"

#include <utility>

namespace fsv {

Queue::Queue() : thread_([this] { loop(); }) {}

Queue::~Queue() { stop(); }

void Queue::push(Work work, CancelToken token) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    items_.push_back({std::move(work), nullptr, std::move(token)});
    depth_.fetch_add(1, std::memory_order_relaxed);
  }
  wake_.notify_one();
}

void Queue::fence(Done done) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    items_.push_back({nullptr, std::move(done), nullptr});
    depth_.fetch_add(1, std::memory_order_relaxed);
  }
  wake_.notify_one();
}

void Queue::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  items_.clear();
}

void Queue::loop() {
  for (;;) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !items_.empty(); });
      if (stopping_) return;
      item = std::move(items_.front());
      items_.pop_front();
    }
    if (item.done) {
      item.done(std::exchange(error_, nullptr));
    } else if (!item.token || !item.token->load(std::memory_order_relaxed)) {
      try {
        item.work();
      } catch (...) {
        if (!error_) error_ = std::current_exception();
      }
    }
    item = {};  // what the work held is released before the queue counts it as finished
    depth_.fetch_sub(1, std::memory_order_relaxed);
  }
}

}  // namespace fsv
