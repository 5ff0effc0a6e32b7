// The device's in-order queue: one executor thread that runs what the JavaScript thread pushes. Nothing but
// that thread computes, and nothing but `fence` waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace fsv {

/// Set by the owner of a request; work that carries a cancelled token is skipped when its turn comes.
using CancelToken = std::shared_ptr<std::atomic<bool>>;

class Queue {
 public:
  using Work = std::function<void()>;
  using Done = std::function<void(std::exception_ptr)>;

  Queue();
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /// Runs `work` after all that was pushed before, unless `token` is cancelled by then. An exception is kept
  /// for the next fence, and work with a token behind it still runs: whoever pushed it sees the error at its
  /// fence.
  void push(Work work, CancelToken token = nullptr);
  /// As `push`, but run by `stop` too if it has not been run by then: for what gives memory back.
  void release(Work work);
  /// Calls `done` on the executor thread when everything before it has run, with the first error since the
  /// last fence.
  void fence(Done done);
  /// Work that is pushed but not finished.
  int64_t depth() const { return depth_.load(std::memory_order_relaxed); }
  /// Lets the running work finish, drops the rest unrun, joins, and calls the fences that are left with
  /// `answer`, or not at all if that is null. Idempotent; pushes afterwards are dropped.
  void stop(std::exception_ptr answer = nullptr);

 private:
  struct Item {
    Work work;
    Done done;
    CancelToken token;
    bool release = false;
  };
  void add(Item item);
  void loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> items_;
  bool stopping_ = false;
  std::atomic<int64_t> depth_{0};
  std::exception_ptr error_;  // executor thread only
  std::thread thread_;
};

}  // namespace fsv
