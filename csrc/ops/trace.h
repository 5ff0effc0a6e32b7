// What a device did and when. While a trace is taken, the JavaScript thread makes a record for every op that
// it queues, with the memory in use at that point of the stream, and the backend fills in the times when the
// op has run. Ranges (stages, steps, layers) cost nothing on the device: an op knows the ranges that it was
// queued in, and a captured op also those that its graph was captured in; a range lasts from its first op to
// its last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ops/ops.h"

namespace fsv {

/// A named part of the work, inside another.
struct TraceRange {
  std::string name;
  std::shared_ptr<const TraceRange> parent;
};

/// What a step knows of itself from when it was queued or captured.
struct TraceNote {
  std::shared_ptr<const TraceRange> range;  ///< innermost; of a captured step, inside the capture
  std::string shapes;
};

struct TraceRecord {
  const char* name = "";
  Cost cost;
  std::shared_ptr<const TraceNote> note;
  std::shared_ptr<const TraceRange> outer;  ///< where the graph of the step was replayed
  size_t memory = 0;                        ///< bytes in use
  int64_t begin = 0, end = 0;               ///< nanoseconds of the steady clock; 0 while it has not run

  /// Of several pieces of work it takes the first's begin and the last's end.
  void took(int64_t from, int64_t to) {
    if (!begin) begin = from;
    end = to;
  }
};

/// Where the times of steps go: to a record each, or all to one. Keeps the trace alive.
struct Traced {
  std::shared_ptr<TraceRecord> first;
  bool each = true;

  explicit operator bool() const { return first != nullptr; }
  TraceRecord& operator[](size_t step) const { return first.get()[each ? step : 0]; }
  /// From that step on.
  Traced from(size_t step) const {
    return first ? Traced{std::shared_ptr<TraceRecord>(first, &(*this)[step]), each} : Traced{};
  }
};

/// All methods are called on the JavaScript thread; executor threads only write times to records.
class Trace : public std::enable_shared_from_this<Trace> {
 public:
  /// `whole_graphs`: a replay is one record, and stays the graph that it is without a trace.
  explicit Trace(bool whole_graphs) : whole_graphs_(whole_graphs) {}

  bool whole_graphs() const { return whole_graphs_; }
  void push(std::string name) {
    range_ = std::make_shared<const TraceRange>(TraceRange{std::move(name), range_});
  }
  void pop() {
    if (range_) range_ = range_->parent;
  }
  const std::shared_ptr<const TraceRange>& range() const { return range_; }
  /// What is captured begins a path of its own, that each replay continues its range with.
  std::shared_ptr<const TraceRange> swap(std::shared_ptr<const TraceRange> range) {
    return std::exchange(range_, std::move(range));
  }

  /// `count` records one behind the other, that stay where they are.
  Traced add(size_t count, bool each = true) {
    if (chunks_.empty() || chunks_.back().size() - used_ < count) {
      chunks_.emplace_back(count > kChunk ? count : kChunk);
      used_ = 0;
    }
    TraceRecord* first = &chunks_.back()[used_];
    used_ += count;
    return {std::shared_ptr<TraceRecord>(shared_from_this(), first), each};
  }

  const std::deque<std::vector<TraceRecord>>& chunks() const { return chunks_; }

 private:
  static constexpr size_t kChunk = 1024;
  bool whole_graphs_;
  std::shared_ptr<const TraceRange> range_;
  std::deque<std::vector<TraceRecord>> chunks_;
  size_t used_ = 0;  // of the last chunk
};

}  // namespace fsv
