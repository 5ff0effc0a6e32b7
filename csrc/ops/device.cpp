#include "ops/device.h"

#include <chrono>
#include <cstring>
#include <future>

namespace fsv {
namespace {

void count(OpStats* stats, const Cost& cost) {
  if (!stats) return;
  stats->calls++;
  stats->flops += cost.flops;
  stats->bytes += cost.bytes;
}

Error disposed(const std::string& device) {
  return {code::kDisposed, "the device " + device + " has been disposed of"};
}

}  // namespace

void Backend::run(const Step& step, const Traced& traced) {
  const auto start = std::chrono::steady_clock::now();
  step.work();
  const auto end = std::chrono::steady_clock::now();
  if (step.stats) step.stats->nanoseconds += (end - start).count();
  if (traced) traced[0].took(start.time_since_epoch().count(), end.time_since_epoch().count());
}

Graph::~Graph() {
  if (device) device->release_later([body = std::move(body)]() mutable { body.reset(); });
}

Storage::Storage(std::shared_ptr<Device> device, std::shared_ptr<const void> owner, size_t bytes)
    : device_(std::move(device)), owner_(std::move(owner)), external_(bytes) {
  device_->mapped_ += bytes;
}

Storage::~Storage() {
  if (block_) {
    if (pool_ == device_->pool_)
      device_->guard(block_->data, block_->size, Guard::outside);  // a graph's goes on being used
    pool_->give(block_);
    if (device_->closed()) {  // nobody will take it again
      pool_->trim();
      device_->backend_->drop_released();
    }
  }
  if (owner_) {
    device_->mapped_ -= external_;
    device_->release_later([owner = std::move(owner_)]() mutable { owner.reset(); });
  }
}

Device::Device(std::string name, std::shared_ptr<Backend> backend)
    : name_(std::move(name)), backend_(std::move(backend)), pool_(make_pool(false)) {
  if (!backend_->dry()) queue_ = std::make_unique<Queue>();
}

Device::~Device() {
  shutdown(false);
  pool_.reset();
}

std::shared_ptr<Pool> Device::make_pool(bool whole_segments) {
  Pool::Source source;
  source.allocate = [this, whole_segments](size_t bytes) {
    void* data = backend_->allocate(bytes);
    if (data && !whole_segments) guard(data, bytes, Guard::outside);
    return data;
  };
  source.release = [this](void* data, size_t bytes) {
    release_later([this, data, bytes] { backend_->release(data, bytes); });
  };
  source.settle = [this] {
    if (!queue_ || closed_) return;
    std::promise<void> settled;
    queue_->release([&] { settled.set_value(); });
    settled.get_future().wait();
  };
  source.available = [this] { return backend_->free_bytes(); };
  return std::make_shared<Pool>(std::move(source), usage_, whole_segments);
}

void Device::release_later(std::function<void()> release) {
  if (queue_ && !closed_)
    queue_->release(std::move(release));
  else
    release();
}

void Device::shutdown(bool answer) {
  if (closed_) return;
  if (queue_) queue_->stop(answer ? std::make_exception_ptr(disposed(name_)) : nullptr);
  closed_ = true;
  capture_.reset();
  pool_->trim();
  backend_->drop_released();
}

void Device::trim(bool keep) {
  pool_->trim();
  if (!keep) release_later([this] { backend_->drop_released(); });
}

void Device::require_open() const {
  if (closed_) throw disposed(name_);
  backend_->require_alive();
}

Tensor Device::empty(const TensorSpec& spec, std::optional<size_t> bytes) {
  require_open();
  const auto& pool = capture_ ? capture_->pool : pool_;
  const size_t size = bytes.value_or(static_cast<size_t>(spec.bytes()));
  Pool::Block* block = nullptr;
  try {
    block = pool->take(size);
  } catch (const Error&) {
    if (!capture_) throw;
    pool_->trim();  // the graph's memory may lie free with the device
    block = pool->take(size);
  }
  if (!capture_) guard(block->data, size, Guard::undefined);
  return {std::make_shared<Storage>(shared_from_this(), pool, block), TensorView(spec, block->data)};
}

Tensor Device::external(const TensorSpec& spec, const void* data, std::shared_ptr<const void> owner) {
  require_open();
  return {std::make_shared<Storage>(shared_from_this(), std::move(owner), static_cast<size_t>(spec.bytes())),
          TensorView(spec, const_cast<void*>(data))};
}

TensorView Device::use(const Tensor& tensor, const char* field) {
  require_open();
  if (!tensor.storage) {
    Error error(code::kDisposed, text(field, ": the tensor has been disposed of"));
    error.field = field;
    throw error;
  }
  if (&tensor.storage->device() != this)
    throw invalid_argument(field, text("a tensor on ", tensor.storage->device().name()),
                           text("a tensor on ", name_));
  // What the graph makes itself is written anew by each replay: its memory may be used again within the
  // graph.
  if (capture_ && tensor.storage->pool() != capture_->pool.get()) capture_->inputs.insert(tensor.storage);
  return tensor.view;
}

void Device::enqueue(Step step) {
  if (capture_) {
    capture_->body->steps.push_back(std::move(step));
    return;
  }
  count(step.stats, step.cost);
  if (!queue_) return;
  if (!trace_) {
    queue_->push([backend = backend_.get(), step = std::move(step)] { backend->run(step, {}); }, token_);
    return;
  }
  const Traced traced = trace_->add(1);
  traced[0].name = step.name;
  traced[0].cost = step.cost;
  traced[0].note = step.note ? step.note : note({});
  traced[0].memory = usage_.in_use;
  queue_->push(
      [this, step = std::move(step), traced] {
        annotate(nullptr, traced[0].note.get(), step.name);
        backend_->run(step, traced);
      },
      token_);
}

Tensor Device::workspace(size_t bytes) {
  if (!bytes) return {};
  TensorSpec spec;
  spec.dtype = DType::u8;
  spec.shape = {static_cast<int64_t>(bytes)};
  return empty(spec);
}

void Device::guard(void* data, size_t bytes, Guard what) {
  if (!backend_->guards()) return;
  release_later([backend = backend_.get(), data, bytes, what] { backend->guard(data, bytes, what); });
}

void Device::guard_aborted(const TensorView& out) {
  if (!backend_->guards() || !token_ || capture_) return;
  queue_->push([backend = backend_.get(), token = token_, out] {
    if (*token) backend->guard(out.data, static_cast<size_t>(out.bytes()), Guard::abandoned);
  });
}

void Device::write(const Tensor& to, const void* host, size_t bytes, std::shared_ptr<const void> owner) {
  const TensorView view = use(to, "tensor");
  if (backend_->dry() || !bytes) return;
  if (!owner) {
    auto copy = std::make_shared<std::vector<char>>(static_cast<const char*>(host),
                                                    static_cast<const char*>(host) + bytes);
    host = copy->data();
    owner = std::move(copy);
  }
  enqueue({"write",
           [backend = backend_.get(), view, host, bytes, owner] { backend->copy_in(view.data, host, bytes); },
           nullptr,
           {0, static_cast<double>(bytes)}});
}

void Device::assign(const Tensor& to, const Tensor& from) {
  const TensorView target = use(to, "assign.to"), source = use(from, "assign.from");
  if (target.dtype != source.dtype || !(target.shape == source.shape) || source.layout != Layout::plain)
    throw invalid_argument("assign.from", text(source.shape.text(), " ", name_of(source.dtype)),
                           text(target.shape.text(), " ", name_of(target.dtype)));
  if (backend_->dry()) return;
  enqueue({"assign",
           [backend = backend_.get(), target, source] {
             backend->copy(target.data, source.data, static_cast<size_t>(source.bytes()));
           },
           nullptr,
           {0, 2 * static_cast<double>(source.bytes())}});
}

void Device::read(const Tensor& from, void* host, Queue::Done done) {
  const TensorView view = use(from, "tensor");
  if (capture_) throw invalid_argument("read", "a call inside capture", "a call outside capture");
  if (backend_->dry()) {
    std::memset(host, 0, static_cast<size_t>(view.bytes()));
    done(nullptr);
    return;
  }
  enqueue({"read",
           [backend = backend_.get(), view, host] {
             backend->copy_out(host, view.data, static_cast<size_t>(view.bytes()));
           },
           nullptr,
           {0, static_cast<double>(view.bytes())}});
  fence(std::move(done));
}

void Device::fence(Queue::Done done) {
  require_open();
  if (!queue_) {
    done(nullptr);
    return;
  }
  queue_->push([backend = backend_.get()] { backend->synchronize(); });
  queue_->fence(std::move(done));
}

void Device::begin_capture() {
  require_open();
  if (capture_) throw invalid_argument("capture", "a capture inside a capture", "one capture at a time");
  capture_ = std::make_shared<Graph>();
  capture_->pool = make_pool(true);
  capture_->device = shared_from_this();
  if (trace_) uncaptured_ = trace_->swap(nullptr);
}

std::shared_ptr<Graph> Device::end_capture() {
  if (trace_ && capture_) trace_->swap(std::exchange(uncaptured_, nullptr));
  return std::exchange(capture_, nullptr);
}

void Device::replay(const Graph& graph) {
  require_open();
  if (capture_) throw invalid_argument("replay", "a call inside capture", "a call outside capture");
  for (const Step& step : graph.body->steps) count(step.stats, step.cost);
  if (!queue_) return;
  const Traced traced = trace_replay(*graph.body);
  const bool each = traced && traced.each;
  OpStats* total = backend_->records() ? &stats_["graph"] : nullptr;
  if (total && !each) total->calls++;
  queue_->push(
      [this, body = graph.body, token = token_, total, traced, each] {
        const auto cancelled = [&] { return token && token->load(std::memory_order_relaxed); };
        std::unique_ptr<Recording>& recording = each ? body->traced : body->recording;
        if (total && body->warm && !recording) recording = backend_->record(body->steps, total, each);
        body->warm = true;
        if (recording) {
          if (traced) annotate(traced[0].outer.get(), nullptr, "graph");
          recording->replay(cancelled, traced);
          return;
        }
        for (size_t i = 0; i < body->steps.size(); i++) {
          if (cancelled()) return;
          if (traced) annotate(traced[i].outer.get(), traced[i].note.get(), body->steps[i].name);
          backend_->run(body->steps[i], traced.from(i));
        }
      },
      token_);
}

}  // namespace fsv
