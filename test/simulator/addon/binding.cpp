// What tests do to simulated cards: simulate({allocation: 3}) lets the third allocation from now fail, and so
// on.
#include "addon/binding.h"

#include "simulator/runtime.h"

namespace fsv::addon {

void register_simulator(Napi::Env env, Napi::Object exports) {
  const auto simulate = [](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto given = info[0].As<Napi::Object>();
    sim::Faults& faults = sim::faults();
    const auto number = [&](const char* name) { return given.Get(name).As<Napi::Number>().Int64Value(); };
    if (given.Has("allocation")) faults.allocation = number("allocation") - 1;
    if (given.Has("launch")) faults.launch = number("launch") - 1;
    if (given.Has("capture")) faults.capture = number("capture") - 1;
    if (given.Has("driver")) faults.no_driver = !given.Get("driver").ToBoolean();
    if (given.Has("memory")) sim::set_card_memory(static_cast<size_t>(number("memory")));
    if (given.Has("slow")) faults.launch_microseconds = number("slow");
    if (given.Get("revive").ToBoolean()) sim::revive_cards();
    return Napi::Number::New(info.Env(), static_cast<double>(faults.launched));
  };
  exports.Set("simulate", Napi::Function::New(env, simulate, "simulate"));
}

}  // namespace fsv::addon
