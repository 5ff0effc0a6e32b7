#include "core/queue.h"

#include <utility>

namespace fsv {

Queue::Queue() : thread_([this] { loop(); }) {}

Queue::~Queue() { stop(); }

void Queue::add(Item item) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    items_.push_back(std::move(item));
    depth_.fetch_add(1, std::memory_order_relaxed);
  }
  wake_.notify_one();
}

void Queue::push(Work work, CancelToken token) { add({std::move(work), nullptr, std::move(token)}); }

void Queue::release(Work work) { add({std::move(work), nullptr, nullptr, true}); }

void Queue::fence(Done done) { add({nullptr, std::move(done), nullptr}); }

void Queue::stop(std::exception_ptr answer) {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  for (Item& item : std::exchange(items_, {})) {
    if (item.release) item.work();
    if (item.done && answer) item.done(answer);
  }
  depth_.store(0, std::memory_order_relaxed);
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
      depth_.fetch_sub(1, std::memory_order_relaxed);  // first: who is told that all is done finds it so
      item.done(std::exchange(error_, nullptr));
      continue;
    }
    if (!item.token || !item.token->load(std::memory_order_relaxed)) {
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
