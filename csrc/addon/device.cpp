// Devices, tensors and everything that waits, for JavaScript.
#include <algorithm>
#include <cstring>

#include "addon/binding.h"
#include "cpu/isa.h"

namespace fsv::addon {
namespace {

using Info = Napi::CallbackInfo;
using GraphHandle = Napi::External<std::shared_ptr<Graph>>;
using TokenHandle = Napi::External<CancelToken>;

#ifdef FSV_SIMULATOR
const std::string kCards = "sim";  // for tests: simulated cards in the place of real ones
#else
const std::string kCards = "cuda";
#endif

/// `cuda:1`.
std::shared_ptr<Backend> open_card([[maybe_unused]] const std::string& name) {
#ifdef FSV_CUDA
  const size_t prefix = kCards.size() + 1;
  if (name.rfind(kCards + ":", 0) == 0 && name.size() > prefix && name.size() < prefix + 4 &&
      name.find_first_not_of("0123456789", prefix) == std::string::npos)
    return make_cuda_backend(std::stoi(name.substr(prefix)));
  throw Error(code::kNoDevice, text("there is no device \"", name, "\" here"));
#else
  throw Error(code::kNoDevice,
              text("there is no device \"", name, "\" here: this build has no CUDA backend"));
#endif
}

/// (name, threads?, isa?, like?): `like` is the device that meta plans for.
Napi::Value open(const Info& info) {
  return guarded(info, [&]() -> Napi::Value {
    const std::string name = info[0].ToString();
    CpuOptions options;
    if (info[1].IsNumber()) options.threads = info[1].As<Napi::Number>().Int32Value();
    if (info[2].IsString()) options.isa = info[2].As<Napi::String>();
    auto backend = std::make_shared<std::shared_ptr<Backend>>();
    std::shared_ptr<const Backend> like;
    if (info[3].IsExternal()) like = device_of(info[3])->shared_backend();
    const auto make = [=] {
      if (name == "cpu")
        *backend = make_cpu_backend(options);
      else if (name == "meta")
        *backend = make_meta_backend(like ? like : make_cpu_backend({.threads = 1, .isa = {}}));
      else
        *backend = open_card(name);
    };
    return background(info, make, [=](Napi::Env env) -> Napi::Value {
      const auto device = std::make_shared<Device>(name, std::move(*backend));
      instance_of(env).devices[device.get()] = {device};  // until it is closed, whatever the collector does
      return DeviceHandle::New(env, new std::shared_ptr<Device>(device),
                               [](Napi::Env, std::shared_ptr<Device>* d) { delete d; });
    });
  });
}

/// {kind, runtime, driver, problem?, list: [{name, capability, freeBytes, totalBytes}]}
Napi::Value cards(const Info& info) {
  auto gpus = std::make_shared<Gpus>();
  const auto list = [gpus] {
#ifdef FSV_CUDA
    *gpus = list_gpus();
#else
    gpus->problem = "this build has no CUDA backend";
#endif
  };
  return background(info, list, [gpus](Napi::Env env) -> Napi::Value {
    Napi::Object out = Napi::Object::New(env);
    out.Set("kind", kCards);
    out.Set("runtime", gpus->runtime);
    out.Set("driver", gpus->driver);
    if (!gpus->problem.empty()) out.Set("problem", gpus->problem);
    Napi::Array rows = Napi::Array::New(env);
    for (const Gpu& gpu : gpus->list) {
      Napi::Object row = Napi::Object::New(env);
      row.Set("name", gpu.name);
      row.Set("capability", gpu.capability);
      row.Set("freeBytes", static_cast<double>(gpu.free_bytes));
      row.Set("totalBytes", static_cast<double>(gpu.total_bytes));
      rows.Set(rows.Length(), row);
    }
    out.Set("list", rows);
    return out;
  });
}

/// Bytes that the device has left; negative where it cannot tell.
Napi::Value free_bytes(const Info& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(device_of(info[0])->backend().free_bytes()));
}

Napi::Value close(const Info& info) {
  const auto device = device_of(info[0]);
  device->shutdown(true);
  Instance& instance = instance_of(info.Env());
  if (const auto open = instance.devices.find(device.get()); open != instance.devices.end()) {
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -open->second.reported);
    instance.devices.erase(open);
  }
  return info.Env().Undefined();
}

Napi::Value describe(const Info& info) {
  return Napi::String::New(info.Env(), device_of(info[0])->backend().description());
}

Napi::Value isas(const Info& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  for (const std::string& isa : cpu::usable_isas()) list.Set(list.Length(), isa);
  return list;
}

Napi::Value fence(const Info& info) {
  return guarded(info, [&] {
    const auto device = device_of(info[0]);
    return promise_of(
        info, device, [&](Queue::Done done) { device->fence(std::move(done)); },
        [](Napi::Env env) { return env.Undefined(); });
  });
}

Napi::Value memory(const Info& info) {
  const MemoryUse use = device_of(info[0])->memory();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("inUse", static_cast<double>(use.in_use));
  out.Set("peak", static_cast<double>(use.peak));
  out.Set("reserved", static_cast<double>(use.reserved));
  out.Set("reservedPeak", static_cast<double>(use.reserved_peak));
  out.Set("mapped", static_cast<double>(use.mapped));
  return out;
}

Napi::Value reset_peak(const Info& info) {
  device_of(info[0])->reset_peak();
  return info.Env().Undefined();
}

Napi::Value trim(const Info& info) {
  device_of(info[0])->trim(info[1].As<Napi::Boolean>().Value());
  return info.Env().Undefined();
}

Napi::Value set_limit(const Info& info) {
  device_of(info[0])->set_limit(static_cast<size_t>(info[1].As<Napi::Number>().DoubleValue()));
  return info.Env().Undefined();
}

Napi::Value depth(const Info& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(device_of(info[0])->depth()));
}

Napi::Value stats(const Info& info) {
  const Napi::Env env = info.Env();
  Napi::Object out = Napi::Object::New(env);
  for (auto& [name, s] : device_of(info[0])->stats()) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("calls", static_cast<double>(s.calls));
    row.Set("flops", s.flops);
    row.Set("bytes", s.bytes);
    row.Set("seconds", static_cast<double>(s.nanoseconds.load()) * 1e-9);
    out.Set(name, row);
  }
  return out;
}

Napi::Value reset_stats(const Info& info) {
  for (auto& [name, s] : device_of(info[0])->stats()) {
    s.calls = 0;
    s.flops = s.bytes = 0;
    s.nanoseconds = 0;
  }
  return info.Env().Undefined();
}

Napi::Value token(const Info& info) {
  return TokenHandle::New(info.Env(), new CancelToken(std::make_shared<std::atomic<bool>>(false)),
                          [](Napi::Env, CancelToken* t) { delete t; });
}

Napi::Value cancel(const Info& info) {
  (*info[0].As<TokenHandle>().Data())->store(true);
  return info.Env().Undefined();
}

Napi::Value set_token(const Info& info) {
  device_of(info[0])->set_token(info[1].IsExternal() ? *info[1].As<TokenHandle>().Data() : nullptr);
  return info.Env().Undefined();
}

Napi::Value begin_capture(const Info& info) {
  return guarded(info, [&] {
    device_of(info[0])->begin_capture();
    return info.Env().Undefined();
  });
}

Napi::Value end_capture(const Info& info) {
  return GraphHandle::New(info.Env(), new std::shared_ptr<Graph>(device_of(info[0])->end_capture()),
                          [](Napi::Env, std::shared_ptr<Graph>* g) { delete g; });
}

Napi::Value begin_trace(const Info& info) {
  return guarded(info, [&] {
    device_of(info[0])->begin_trace(info[1].ToBoolean());
    return info.Env().Undefined();
  });
}

Napi::Value push_range(const Info& info) {
  device_of(info[0])->push_range(info[1].As<Napi::String>());
  return info.Env().Undefined();
}

Napi::Value pop_range(const Info& info) {
  device_of(info[0])->pop_range();
  return info.Env().Undefined();
}

/// What has run, in the order in which it was queued: {names, shapes, paths: lists without repetitions, ops:
/// Float64Array of kTraceFields an op}.
Napi::Value traced_ops(Napi::Env env, const Trace& trace) {
  constexpr size_t kTraceFields = 8;  // name, shapes, path, begin and end in ns, FLOPs, bytes, memory in use
  const Napi::Array names = Napi::Array::New(env), shapes = Napi::Array::New(env),
                    paths = Napi::Array::New(env);
  std::map<std::string, uint32_t> name_numbers, shape_numbers;
  std::map<std::pair<const TraceRange*, const TraceRange*>, uint32_t> path_numbers;
  const auto number_of = [](auto& numbers, const auto& key, const Napi::Array& list, auto make) {
    const auto [at, is_new] = numbers.try_emplace(key, static_cast<uint32_t>(numbers.size()));
    if (is_new) list.Set(at->second, make());
    return static_cast<double>(at->second);
  };
  const auto path_of = [env](const TraceRange* outer, const TraceRange* inner) {
    std::vector<const TraceRange*> ranges;  // the innermost first
    for (const TraceRange* first : {inner, outer})
      for (const TraceRange* range = first; range; range = range->parent.get()) ranges.push_back(range);
    Napi::Array path = Napi::Array::New(env, ranges.size());
    for (size_t i = 0; i < ranges.size(); i++)
      path.Set(static_cast<uint32_t>(i), ranges[ranges.size() - 1 - i]->name);
    return path;
  };
  std::vector<double> ops;
  for (const std::vector<TraceRecord>& chunk : trace.chunks())
    for (const TraceRecord& record : chunk) {
      if (!record.end) continue;  // was cancelled
      const std::string name = record.name, text = record.note ? record.note->shapes : std::string();
      const TraceRange* const inner = record.note ? record.note->range.get() : nullptr;
      const auto path = std::make_pair(record.outer.get(), inner);
      const auto string = [env](const std::string& value) {
        return [env, value] { return Napi::String::New(env, value); };
      };
      for (const double value :
           {number_of(name_numbers, name, names, string(name)),
            number_of(shape_numbers, text, shapes, string(text)),
            number_of(path_numbers, path, paths, [&] { return path_of(path.first, path.second); }),
            static_cast<double>(record.begin), static_cast<double>(record.end), record.cost.flops,
            record.cost.bytes, static_cast<double>(record.memory)})
        ops.push_back(value);
    }
  Napi::Float64Array values = Napi::Float64Array::New(env, ops.size());
  std::copy(ops.begin(), ops.end(), values.Data());
  Napi::Object out = Napi::Object::New(env);
  out.Set("names", names);
  out.Set("shapes", shapes);
  out.Set("paths", paths);
  out.Set("fields", static_cast<double>(kTraceFields));
  out.Set("ops", values);
  return out;
}

Napi::Value end_trace(const Info& info) {
  return guarded(info, [&] {
    const auto device = device_of(info[0]);
    const std::shared_ptr<Trace> trace = device->end_trace();
    if (!trace) throw invalid_argument("trace", "an end without a begin", "a trace that is taken");
    return promise_of(
        info, device, [&](Queue::Done done) { device->fence(std::move(done)); },
        [trace](Napi::Env env) { return traced_ops(env, *trace); });
  });
}

Napi::Value replay(const Info& info) {
  return guarded(info, [&] {
    const auto& graph = *info[1].As<GraphHandle>().Data();
    if (!graph) throw Error(code::kDisposed, "the graph has been disposed of");
    device_of(info[0])->replay(*graph);
    return info.Env().Undefined();
  });
}

Napi::Value dispose_graph(const Info& info) {
  info[0].As<GraphHandle>().Data()->reset();
  return info.Env().Undefined();
}

// Tensors
// -------------------------------------------------------------------------------------------------------------

struct Bytes {
  const char* data;
  size_t size;
};

Bytes bytes_of(const Napi::Value& value) {
  if (value.IsTypedArray()) {
    const auto array = value.As<Napi::TypedArray>();
    return {static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
  }
  throw invalid_argument("data", "something else", "a typed array");
}

Napi::Value tensor(const Info& info) {
  return guarded(info, [&] {
    const auto& device = device_of(info[0]);
    const Bytes data = bytes_of(info[1]);
    TensorSpec spec;
    spec.shape = to_shape(info[2], "shape");
    spec.dtype = to_dtype(info[3], "dtype");
    if (static_cast<int64_t>(data.size) != spec.bytes())
      throw invalid_argument("data", text(data.size, " bytes"),
                             text(spec.bytes(), " bytes for ", spec.shape.text(), " ", name_of(spec.dtype)));
    const Tensor out = device->empty(spec);
    device->write(out, data.data, data.size);
    return wrap(info.Env(), out);
  });
}

Napi::Value write(const Info& info) {
  return guarded(info, [&] {
    const Tensor& to = tensor_of(info[1], "tensor");
    const Bytes data = bytes_of(info[2]);
    if (static_cast<int64_t>(data.size) != to.view.bytes())
      throw invalid_argument("data", text(data.size, " bytes"), text(to.view.bytes(), " bytes"));
    device_of(info[0])->write(to, data.data, data.size);
    return info.Env().Undefined();
  });
}

Napi::Value assign(const Info& info) {
  return guarded(info, [&] {
    device_of(info[0])->assign(tensor_of(info[1], "assign.to"), tensor_of(info[2], "assign.from"));
    return info.Env().Undefined();
  });
}

Napi::Value read(const Info& info) {
  return guarded(info, [&] {
    const auto device = device_of(info[0]);
    const Tensor& from = tensor_of(info[1], "tensor");
    if (from.view.layout != Layout::plain)
      throw invalid_argument("tensor", "a packed weight", "a plain tensor");
    const auto size = static_cast<size_t>(from.storage ? from.view.bytes() : 0);
    const Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), size);
    auto kept = std::make_shared<Napi::Reference<Napi::ArrayBuffer>>(Napi::Persistent(buffer));
    void* data = kept->Value().Data();
    return promise_of(
        info, device, [&](Queue::Done done) { device->read(from, data, std::move(done)); },
        [kept](Napi::Env) { return kept->Value(); });
  });
}

Napi::Value dispose(const Info& info) {
  Tensor& t = tensor_of(info[0], "tensor");
  t.storage.reset();
  return info.Env().Undefined();
}

/// [dtype, layout, ...shape]
Napi::Value describe_tensor(const Info& info) {
  const Tensor& t = tensor_of(info[0], "tensor");
  Napi::Array out = Napi::Array::New(info.Env(), static_cast<size_t>(t.view.shape.rank) + 2);
  out.Set(uint32_t{0}, std::string(name_of(t.view.dtype)));
  constexpr const char* kLayouts[] = {"plain", "packedLinear", "packedConv"};
  out.Set(uint32_t{1}, kLayouts[static_cast<int>(t.view.layout)]);
  for (int i = 0; i < t.view.shape.rank; i++)
    out.Set(static_cast<uint32_t>(i + 2), static_cast<double>(t.view.shape[i]));
  return out;
}

void require_live_plain(const Tensor& t, const char* field) {
  if (!t.storage) throw Error(code::kDisposed, text(field, ": the tensor has been disposed of"));
  if (t.view.layout != Layout::plain) throw invalid_argument(field, "a packed weight", "a plain tensor");
}

Napi::Value reshape(const Info& info) {
  return guarded(info, [&] {
    Tensor t = tensor_of(info[0], "reshape.x");
    require_live_plain(t, "reshape.x");
    const Shape shape = to_shape(info[1], "reshape.shape");
    if (shape.elements() != t.view.elements())
      throw invalid_argument("reshape.shape", shape.text(),
                             text("a shape of ", t.view.elements(), " elements"));
    t.view.shape = shape;
    return wrap(info.Env(), std::move(t));
  });
}

/// Elements [start, end) of the first axis that is longer than 1 before it: a view of the same memory.
Napi::Value view(const Info& info) {
  return guarded(info, [&] {
    Tensor t = tensor_of(info[0], "view.x");
    require_live_plain(t, "view.x");
    const int axis = info[1].As<Napi::Number>().Int32Value();
    const int64_t start = info[2].As<Napi::Number>().Int64Value(),
                  end = info[3].As<Napi::Number>().Int64Value();
    const Shape& shape = t.view.shape;
    if (axis < 0 || axis >= shape.rank || shape.elements(0, axis) != 1)
      throw invalid_argument("view.axis", text(axis),
                             text("an axis of ", shape.text(), " with nothing but ones before it"));
    if (start < 0 || end < start || end > shape[axis])
      throw invalid_argument("view.range", text(start, "..", end), text("a range inside 0..", shape[axis]));
    const int64_t stride = shape.elements(axis + 1, shape.rank) * static_cast<int64_t>(size_of(t.view.dtype));
    t.view.data = static_cast<char*>(t.view.data) + start * stride;
    t.view.shape[axis] = end - start;
    return wrap(info.Env(), std::move(t));
  });
}

}  // namespace

void register_device(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*f)(const Info&)) {
    exports.Set(name, Napi::Function::New(env, f, name));
  };
  add("open", open);
  add("cards", cards);
  add("freeBytes", free_bytes);
  add("close", close);
  add("describe", describe);
  add("isas", isas);
  add("fence", fence);
  add("memory", memory);
  add("resetPeak", reset_peak);
  add("trim", trim);
  add("setLimit", set_limit);
  add("depth", depth);
  add("stats", stats);
  add("resetStats", reset_stats);
  add("token", token);
  add("cancel", cancel);
  add("setToken", set_token);
  add("beginCapture", begin_capture);
  add("endCapture", end_capture);
  add("beginTrace", begin_trace);
  add("endTrace", end_trace);
  add("pushRange", push_range);
  add("popRange", pop_range);
  add("replay", replay);
  add("disposeGraph", dispose_graph);
  add("tensor", tensor);
  add("write", write);
  add("assign", assign);
  add("read", read);
  add("dispose", dispose);
  add("describeTensor", describe_tensor);
  add("reshape", reshape);
  add("view", view);
}

}  // namespace fsv::addon
