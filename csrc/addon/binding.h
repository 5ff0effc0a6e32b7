// JavaScript values to C++ and back; no arithmetic. Arguments come by position: the TypeScript face
// (lib/ops.ts) fills in defaults and gives them names.
#pragma once

#include <napi.h>

#include <atomic>
#include <cmath>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "ops/contract.h"
#include "ops/device.h"

namespace fsv::addon {

/// Carries calls from executor threads to the JavaScript thread. It keeps the process alive only while a
/// promise is pending.
class Dispatcher {
 public:
  explicit Dispatcher(Napi::Env env);
  /// Any thread. `call` runs on the JavaScript thread.
  void post(std::function<void(Napi::Env)> call);
  /// JavaScript thread: a promise has become pending, or has been settled.
  void expect(Napi::Env env);
  void settled(Napi::Env env);

 private:
  Napi::ThreadSafeFunction function_;
  int pending_ = 0;
};

/// What one environment (the main thread or a worker) owns.
struct Instance {
  explicit Instance(Napi::Env env);
  /// Ends devices and threads: executor threads must be gone before the environment is.
  void shutdown();
  Dispatcher dispatcher;
  Napi::FunctionReference error_class;  // FSVideoError of lib/errors.ts
  struct Open {
    std::shared_ptr<Device> device;
    int64_t reported = 0;  // bytes of its tensors that V8's collector has been told of
  };
  std::map<const Device*, Open> devices;
  struct Worker {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> ended;
  };
  std::list<Worker> workers;  // of `background`
};

Instance& instance_of(Napi::Env env);

/// The JavaScript error for a native one: code, field, got, expected, needed, available.
Napi::Error to_js(Napi::Env env, const Error& error);
Napi::Value to_js(Napi::Env env, const std::exception_ptr& error);

/// Runs a binding's body and turns C++ exceptions into JavaScript ones.
template <class Body>
Napi::Value guarded(const Napi::CallbackInfo& info, Body body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception&) {
    throw Napi::Error(info.Env(), to_js(info.Env(), std::current_exception()));
  }
}

using DeviceHandle = Napi::External<std::shared_ptr<Device>>;
using TensorHandle = Napi::External<Tensor>;

std::shared_ptr<Device>& device_of(const Napi::Value& value);
Tensor& tensor_of(const Napi::Value& value, const char* field);
/// A handle that V8 may collect; also tells V8 how much memory hangs on such handles.
Napi::Value wrap(Napi::Env env, Tensor tensor);
void report_memory(Napi::Env env, const Device& device);

/// A promise settled by what `work` does on a thread of its own: `finish` makes the value on the JavaScript
/// thread.
Napi::Value background(const Napi::CallbackInfo& info, std::function<void()> work,
                       std::function<Napi::Value(Napi::Env)> finish);

/// A promise settled by a fence: `finish` makes the value on the JavaScript thread.
Napi::Value promise_of(const Napi::CallbackInfo& info, const std::shared_ptr<Device>& device,
                       const std::function<void(Queue::Done)>& start,
                       std::function<Napi::Value(Napi::Env)> finish);

/// Reads an op's arguments one after the other. undefined and null stand for "not given".
class Arguments {
 public:
  Arguments(const Napi::CallbackInfo& info, const char* op);

  Device& device() { return *device_; }
  Napi::Env env() const { return info_.Env(); }

  TensorView tensor(const char* field);
  /// A list of at most `limit` tensors; returns how many.
  int tensors(const char* field, TensorView* into, int limit);
  int64_t integer(const char* field);
  double number(const char* field);
  bool flag() { return next().ToBoolean(); }
  DType dtype(const char* field);
  Activation activation(const char* field);
  Shape shape(const char* field);
  Napi::Value next() { return info_[index_++]; }
  std::string name(const char* field) const { return camel_case(op_) + "." + field; }

  /// Queues the op and wraps its result.
  template <class Args>
  Napi::Value launch(void (Backend::*op)(const Args&), const Args& args,
                     std::optional<size_t> bytes = std::nullopt) {
    Tensor out = device_->launch(op_, op, args, bytes);
    return wrap(info_.Env(), std::move(out));
  }

 private:
  const Napi::CallbackInfo& info_;
  const char* op_;
  std::shared_ptr<Device> device_;
  size_t index_ = 0;
};

Shape to_shape(const Napi::Value& value, const std::string& field);
DType to_dtype(const Napi::Value& value, const std::string& field);

void register_ops(Napi::Env env, Napi::Object exports);
void register_device(Napi::Env env, Napi::Object exports);
void register_weights(Napi::Env env, Napi::Object exports);
#ifdef FSV_SIMULATOR
void register_simulator(Napi::Env env, Napi::Object exports);  // test/simulator/addon
#endif

}  // namespace fsv::addon
