#include "addon/binding.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new fsv::addon::Instance(env));
  exports.Set("setErrorClass", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
                fsv::addon::instance_of(info.Env()).error_class =
                    Napi::Persistent(info[0].As<Napi::Function>());
              }));
  fsv::addon::register_device(env, exports);
  fsv::addon::register_ops(env, exports);
  fsv::addon::register_weights(env, exports);
#ifdef FSV_SIMULATOR
  fsv::addon::register_simulator(env, exports);
#endif
  return exports;
}

}  // namespace

NODE_API_MODULE(fsvideo, init)
