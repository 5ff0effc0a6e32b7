// What a device does while a trace is taken of it.
#include "ops/device.h"

namespace fsv {
namespace {

void list_names(const TraceRange* range, std::vector<std::string>& names) {
  if (!range) return;
  list_names(range->parent.get(), names);
  names.push_back(range->name);
}

}  // namespace

std::shared_ptr<const TraceNote> Device::note(std::string shapes) const {
  return std::make_shared<const TraceNote>(TraceNote{trace_->range(), std::move(shapes)});
}

void Device::annotate(const TraceRange* outer, const TraceNote* note, const char* name) {
  if (!NvtxRanges::attached()) return;
  std::vector<std::string> path;
  list_names(outer, path);
  if (note) list_names(note->range.get(), path);
  path.push_back(name);
  nvtx_.enter(path);
}

void Device::begin_trace(bool whole_graphs) {
  require_open();
  if (trace_) throw invalid_argument("trace", "a trace while one is taken", "one trace at a time");
  if (capture_) throw invalid_argument("trace", "a call inside capture", "a call outside capture");
  trace_ = std::make_shared<Trace>(whole_graphs);
  if (queue_) queue_->push([backend = backend_.get()] { backend->begin_trace(); });
}

std::shared_ptr<Trace> Device::end_trace() {
  if (capture_) throw invalid_argument("trace", "a call inside capture", "a call outside capture");
  if (trace_ && queue_) queue_->push([this] { nvtx_.enter({}); });
  return std::exchange(trace_, nullptr);
}

Traced Device::trace_replay(const Graph::Body& body) {
  if (!trace_ || body.steps.empty()) return {};
  const Traced traced = trace_->add(trace_->whole_graphs() ? 1 : body.steps.size(), !trace_->whole_graphs());
  for (size_t i = 0; i < body.steps.size(); i++) {
    const Step& step = body.steps[i];
    TraceRecord& record = traced[i];
    record.name = traced.each ? step.name : "graph";
    record.cost.flops += step.cost.flops;
    record.cost.bytes += step.cost.bytes;
    if (traced.each) record.note = step.note;
    record.outer = trace_->range();
    record.memory = usage_.in_use;
  }
  return traced;
}

}  // namespace fsv
