// A device as the binding sees it: a backend, its queue and its memory. All methods are called on the
// JavaScript thread; only what is pushed to the queue runs on the executor thread.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/nvtx.h"
#include "core/pool.h"
#include "core/queue.h"
#include "ops/backend.h"
#include "ops/describe.h"

namespace fsv {

class Device;

/// Memory that tensors share. Returns to where it came from when the last tensor lets go.
class Storage {
 public:
  Storage(std::shared_ptr<Device> device, std::shared_ptr<Pool> pool, Pool::Block* block)
      : device_(std::move(device)), pool_(std::move(pool)), block_(block) {}
  /// Memory of somebody else (a mapped file), let go in stream order.
  Storage(std::shared_ptr<Device> device, std::shared_ptr<const void> owner, size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return *device_; }
  const Pool* pool() const { return pool_.get(); }

 private:
  std::shared_ptr<Device> device_;
  std::shared_ptr<Pool> pool_;
  Pool::Block* block_ = nullptr;
  std::shared_ptr<const void> owner_;
  size_t external_ = 0;
};

struct Tensor {
  std::shared_ptr<Storage> storage;
  TensorView view;
};

/// Recorded work that can be replayed. It keeps alive what it reads, and owns the memory of what it makes.
/// It may be let go of (on the JavaScript thread) while replays are queued: they hold the steps, and memory
/// goes back in stream order.
struct Graph {
  struct Body {
    std::vector<Step> steps;
    bool warm = false;                             ///< has been replayed; executor thread only, as all below
    std::unique_ptr<Recording> recording, traced;  ///< `traced` takes the time of every step
  };
  std::shared_ptr<Device> device;  // first, so that it goes last: the pool gives its memory back through it
  std::shared_ptr<Pool> pool;
  std::shared_ptr<Body> body = std::make_shared<Body>();
  std::set<std::shared_ptr<Storage>> inputs;
  ~Graph();
};

struct MemoryUse {
  size_t in_use, peak, reserved, reserved_peak, mapped;
};

class Device : public std::enable_shared_from_this<Device> {
 public:
  Device(std::string name, std::shared_ptr<Backend> backend);
  ~Device();

  const std::string& name() const { return name_; }
  const Backend& backend() const { return *backend_; }
  std::shared_ptr<const Backend> shared_backend() const { return backend_; }

  /// New memory, contents undefined. `bytes` overrides the size that the spec implies (packed weights).
  Tensor empty(const TensorSpec& spec, std::optional<size_t> bytes = std::nullopt);
  /// A tensor over memory of `owner`.
  Tensor external(const TensorSpec& spec, const void* data, std::shared_ptr<const void> owner);

  /// What an op may see of a tensor: checks that it lives on this device and is not disposed, and makes a
  /// capture keep it.
  TensorView use(const Tensor& tensor, const char* field);

  /// Checks, allocates the result, counts and queues. The way every op goes.
  template <class Args>
  Tensor launch(const char* name, void (Backend::*op)(const Args&), Args args) {
    return launch(name, op, std::move(args), std::optional<size_t>{});
  }
  template <class Args>
  Tensor launch(const char* name, void (Backend::*op)(const Args&), Args args, std::optional<size_t> bytes) {
    const TensorSpec spec = check(args);
    Tensor out = empty(spec, bytes);
    args.out = out.view;
    const Tensor scratch = workspace(backend_->workspace_bytes(args));  // whoever takes it next comes later
    enqueue({name,
             [backend = backend_.get(), op, args, data = scratch.view.data] {
               backend->use_workspace(data);
               (backend->*op)(args);
             },
             &stats_[name], cost(args), trace_ ? note(describe_operands(args, spec)) : nullptr});
    guard_aborted(out.view);
    return out;
  }

  /// Copies host bytes into a tensor, or device bytes between tensors of one size, in stream order. Bytes
  /// with an `owner` are read when their turn comes, others now.
  void write(const Tensor& to, const void* host, size_t bytes, std::shared_ptr<const void> owner = nullptr);
  void assign(const Tensor& to, const Tensor& from);
  /// Copies a tensor to host memory that stays valid until `done` has been called.
  void read(const Tensor& from, void* host, Queue::Done done);
  void fence(Queue::Done done);

  void begin_capture();
  std::shared_ptr<Graph> end_capture();
  void replay(const Graph& graph);

  /// Records what is queued from now on. One trace at a time.
  void begin_trace(bool whole_graphs);
  /// What was recorded, complete when a fence behind it is done; null without a trace.
  std::shared_ptr<Trace> end_trace();
  /// What is queued until `pop_range` is part of a range. Without a trace nothing happens.
  void push_range(std::string name) {
    if (trace_) trace_->push(std::move(name));
  }
  void pop_range() {
    if (trace_) trace_->pop();
  }

  /// Work pushed from now on is skipped once the token is set; nullptr for none.
  void set_token(CancelToken token) { token_ = std::move(token); }

  MemoryUse memory() const {
    return {usage_.in_use, usage_.peak, usage_.reserved, usage_.reserved_peak, mapped_};
  }
  void reset_peak() {
    usage_.peak = usage_.in_use;
    usage_.reserved_peak = usage_.reserved;
  }
  /// Bytes that may be reserved; 0 for no limit.
  void set_limit(size_t bytes) { usage_.limit = bytes; }
  /// Returns what no tensor uses to the system; the backend may `keep` some of it for whoever allocates next.
  void trim(bool keep);
  int64_t depth() const { return queue_ ? queue_->depth() : 0; }
  std::map<std::string, OpStats>& stats() { return stats_; }

  /// Finishes the op that runs, drops the rest, joins the thread; with `answer`, whoever waits is told
  /// ERR_FSVIDEO_DISPOSED. Tensors may be disposed of afterwards, ops are refused.
  void shutdown(bool answer);
  bool closed() const { return closed_; }

 private:
  friend class Storage;
  friend struct Graph;
  void enqueue(Step step);
  std::shared_ptr<const TraceNote> note(std::string shapes) const;
  Traced trace_replay(const Graph::Body& body);
  void annotate(const TraceRange* outer, const TraceNote* note, const char* name);
  Tensor workspace(size_t bytes);
  void guard(void* data, size_t bytes, Guard what);
  void guard_aborted(const TensorView& out);
  void require_open() const;
  void release_later(std::function<void()> release);
  std::shared_ptr<Pool> make_pool(bool whole_segments);

  std::string name_;
  std::shared_ptr<Backend> backend_;
  std::unique_ptr<Queue> queue_;  // none on a dry device
  Pool::Usage usage_;
  std::shared_ptr<Pool> pool_;
  std::shared_ptr<Graph> capture_;
  CancelToken token_;
  std::shared_ptr<Trace> trace_;
  std::shared_ptr<const TraceRange> uncaptured_;  // the range outside of the capture
  NvtxRanges nvtx_;                               // executor thread only
  std::map<std::string, OpStats> stats_;
  size_t mapped_ = 0;
  bool closed_ = false;
};

}  // namespace fsv
