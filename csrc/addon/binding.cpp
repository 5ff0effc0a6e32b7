#include "addon/binding.h"

namespace fsv::addon {

Dispatcher::Dispatcher(Napi::Env env)
    : function_(Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                              "fsvideo", 0, 1)) {
  function_.Unref(env);
}

void Dispatcher::post(std::function<void(Napi::Env)> call) {
  auto* boxed = new std::function<void(Napi::Env)>(std::move(call));
  const napi_status status =
      function_.BlockingCall(boxed, [](Napi::Env env, Napi::Function, std::function<void(Napi::Env)>* f) {
        const std::unique_ptr<std::function<void(Napi::Env)>> owned(f);
        if (env != nullptr) (*owned)(env);  // no environment: it is being torn down, nobody waits any more
      });
  if (status != napi_ok) delete boxed;
}

void Dispatcher::expect(Napi::Env env) {
  if (pending_++ == 0) function_.Ref(env);
}

void Dispatcher::settled(Napi::Env env) {
  if (--pending_ == 0) function_.Unref(env);
}

Instance::Instance(Napi::Env env) : dispatcher(env) {
  // Executor threads must be gone before the environment is: on Node 20 a thread-safe function called while
  // its environment is torn down aborts the process. Hooks run the last one first, so this one runs before
  // the dispatcher's own.
  napi_add_env_cleanup_hook(
      env, [](void* data) { static_cast<Instance*>(data)->shutdown(); }, this);
}

void Instance::shutdown() {
  for (Worker& worker : workers) worker.thread.join();
  workers.clear();
  for (auto& [key, open] : devices) open.device->shutdown(false);
}

Instance& instance_of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

Napi::Error to_js(Napi::Env env, const Error& error) {
  Napi::Object detail = Napi::Object::New(env);
  if (!error.field.empty()) detail.Set("field", error.field);
  if (!error.got.empty()) detail.Set("got", error.got);
  if (!error.expected.empty()) detail.Set("expected", error.expected);
  if (error.needed >= 0) detail.Set("needed", static_cast<double>(error.needed));
  if (error.available >= 0) detail.Set("available", static_cast<double>(error.available));
  const auto code = Napi::String::New(env, error.code), message = Napi::String::New(env, error.what());
  return {env, instance_of(env).error_class.New({code, message, detail})};
}

Napi::Value to_js(Napi::Env env, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return to_js(env, e).Value();
  } catch (const std::bad_alloc&) {
    return to_js(env, out_of_memory(0, -1)).Value();
  } catch (const std::exception& e) {
    return to_js(env, Error(code::kInternal, e.what())).Value();
  }
}

std::shared_ptr<Device>& device_of(const Napi::Value& value) {
  if (!value.IsExternal()) throw invalid_argument("device", "something else", "a device");
  return *value.As<DeviceHandle>().Data();
}

Tensor& tensor_of(const Napi::Value& value, const char* field) {
  if (!value.IsExternal()) throw invalid_argument(field, "something else", "a tensor");
  return *value.As<TensorHandle>().Data();
}

void report_memory(Napi::Env env, const Device& device) {
  // In steps: each report may make V8 collect. Only host memory counts; 28 GB on a card must not frighten the
  // collector.
  constexpr int64_t kStep = int64_t{64} << 20;
  if (device.backend().dry() || !device.backend().host_memory()) return;
  Instance& instance = instance_of(env);
  const auto open = instance.devices.find(&device);
  if (open == instance.devices.end()) return;
  int64_t& reported = open->second.reported;
  const auto now = static_cast<int64_t>(device.memory().in_use);
  if (std::llabs(now - reported) < kStep) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, now - reported);
  reported = now;
}

Napi::Value wrap(Napi::Env env, Tensor tensor) {
  report_memory(env, tensor.storage->device());
  return TensorHandle::New(env, new Tensor(std::move(tensor)), [](Napi::Env, Tensor* t) { delete t; });
}

Napi::Value promise_of(const Napi::CallbackInfo& info, const std::shared_ptr<Device>& device,
                       const std::function<void(Queue::Done)>& start,
                       std::function<Napi::Value(Napi::Env)> finish) {
  const Napi::Env env = info.Env();
  Instance* instance = &instance_of(env);
  auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  const Napi::Promise promise = deferred->Promise();
  // Called once, on the executor thread, which must keep nothing: `finish` may hold references of
  // JavaScript's.
  start([instance, deferred = std::move(deferred), device,
         finish = std::move(finish)](std::exception_ptr error) mutable {
    instance->dispatcher.post(
        [instance, deferred = std::move(deferred), finish = std::move(finish), error](Napi::Env env) {
          const Napi::HandleScope scope(env);
          instance->dispatcher.settled(env);
          if (error)
            deferred->Reject(to_js(env, error));
          else
            deferred->Resolve(finish(env));
        });
  });
  instance->dispatcher.expect(env);
  return promise;
}

Napi::Value background(const Napi::CallbackInfo& info, std::function<void()> work,
                       std::function<Napi::Value(Napi::Env)> finish) {
  auto& workers = instance_of(info.Env()).workers;
  workers.remove_if([](Instance::Worker& worker) {
    if (!*worker.ended) return false;
    worker.thread.join();
    return true;
  });
  const auto start = [&](Queue::Done done) {
    const auto ended = std::make_shared<std::atomic<bool>>(false);
    workers.push_back({std::thread([ended, work = std::move(work), done = std::move(done)] {
                         std::exception_ptr error;
                         try {
                           work();
                         } catch (...) {
                           error = std::current_exception();
                         }
                         done(error);
                         *ended = true;
                       }),
                       ended});
  };
  return promise_of(info, nullptr, start, std::move(finish));
}

Arguments::Arguments(const Napi::CallbackInfo& info, const char* op)
    : info_(info), op_(op), device_(device_of(info[0])), index_(1) {}

TensorView Arguments::tensor(const char* field) {
  const Napi::Value value = next();
  if (value.IsUndefined() || value.IsNull()) return {};
  return device_->use(tensor_of(value, name(field).c_str()), name(field).c_str());
}

int Arguments::tensors(const char* field, TensorView* into, int limit) {
  const Napi::Value value = next();
  if (!value.IsArray()) throw invalid_argument(name(field), "something else", "a list of tensors");
  const auto list = value.As<Napi::Array>();
  const auto count = static_cast<int>(list.Length());
  if (count < 1 || count > limit)
    throw invalid_argument(name(field), text(count, " tensors"), text("1 to ", limit, " tensors"));
  for (int i = 0; i < count; i++) {
    const std::string item = text(name(field), "[", i, "]");
    into[i] = device_->use(tensor_of(list.Get(static_cast<uint32_t>(i)), item.c_str()), item.c_str());
  }
  return count;
}

double Arguments::number(const char* field) {
  const Napi::Value value = next();
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!std::isfinite(number)) throw invalid_argument(name(field), value.ToString(), "a finite number");
  return number;
}

int64_t Arguments::integer(const char* field) {
  const double number = this->number(field);
  if (number != std::floor(number) || std::fabs(number) > 9007199254740991.0)
    throw invalid_argument(name(field), text(number), "an integer");
  return static_cast<int64_t>(number);
}

DType to_dtype(const Napi::Value& value, const std::string& field) {
  const std::string given = value.IsString() ? value.As<Napi::String>().Utf8Value() : "something else";
  if (const auto dtype = parse_dtype(given)) return *dtype;
  throw invalid_argument(field, given, "one of f32, bf16, f8e4m3, i32, u8");
}

DType Arguments::dtype(const char* field) { return to_dtype(next(), name(field)); }

Activation Arguments::activation(const char* field) {
  constexpr const char* kNames[] = {"none", "silu", "relu", "gelu", "gelu_tanh"};
  const Napi::Value value = next();
  if (value.IsUndefined()) return Activation::none;
  const std::string given = value.ToString();
  for (int i = 0; i < 5; i++)
    if (given == kNames[i]) return static_cast<Activation>(i);
  throw invalid_argument(name(field), given, "one of none, silu, relu, gelu, gelu_tanh");
}

Shape to_shape(const Napi::Value& value, const std::string& field) {
  if (!value.IsArray() || value.As<Napi::Array>().Length() > kMaxRank)
    throw invalid_argument(field, "something else", text("a list of at most ", kMaxRank, " sizes"));
  const auto list = value.As<Napi::Array>();
  Shape shape;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value item = list.Get(i);
    const double n = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : NAN;
    if (!(n >= 0 && n == std::floor(n) && n <= 9007199254740991.0))
      throw invalid_argument(text(field, "[", i, "]"), item.ToString(), "a non-negative integer");
    shape.dims[shape.rank++] = static_cast<int64_t>(n);
  }
  return shape;
}

Shape Arguments::shape(const char* field) { return to_shape(next(), name(field)); }

}  // namespace fsv::addon
