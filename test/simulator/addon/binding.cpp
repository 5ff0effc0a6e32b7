// What tests and benchmarks do to simulated cards beside using them. simulate({allocation: 3}) lets the third
// allocation from now fail, and so on; count(true) counts what kernels move; plan({op, ...}) says how a card
// would run an op.
#include "addon/binding.h"

#include "simulator/plans.h"
#include "simulator/runtime.h"

namespace fsv::addon {
namespace {

Napi::Value simulate(const Napi::CallbackInfo& info) {
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
}

Napi::Value count(const Napi::CallbackInfo& info) {
  const sim::Counts counts = sim::count(info[0].ToBoolean());
  Napi::Object result = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, uint64_t value) { result.Set(name, static_cast<double>(value)); };
  set("launches", counts.launches);
  set("read", counts.read);
  set("written", counts.written);
  set("sectors", counts.sectors);
  set("leastSectors", counts.least_sectors);
  set("wavefronts", counts.wavefronts);
  set("leastWavefronts", counts.least_wavefronts);
  return result;
}

/// A shape and a type without data.
TensorView view_of(const Napi::Value& given, DType dtype) {
  TensorView view;
  view.dtype = dtype;
  const auto sizes = given.As<Napi::Array>();
  view.shape.rank = static_cast<int>(sizes.Length());
  for (uint32_t i = 0; i < sizes.Length(); i++)
    view.shape[static_cast<int>(i)] = sizes.Get(i).As<Napi::Number>().Int64Value();
  return view;
}

/// plan("linear" or "linearFp8", dtype, processors, x, weight), plan("attention", dtype, processors, q, k),
/// plan("conv3d", dtype, processors, x, weight, out, pads: [left, right, h, w], groups, norm): shapes are
/// arrays.
Napi::Value plan(const Napi::CallbackInfo& info) {
  const std::string op = info[0].ToString(), type = info[1].ToString();
  const DType dtype = type == "bf16" ? DType::bf16 : type == "f8e4m3" ? DType::f8e4m3 : DType::f32;
  const int processors = info[2].ToNumber();
  const TensorView a = view_of(info[3], dtype), b = view_of(info[4], dtype);
  sim::Plan p;
  if (op == "linear" || op == "linearFp8") {
    p = sim::plan_linear(dtype, a.shape[0], b.shape[0], b.shape[1], processors, op == "linearFp8");
  } else if (op == "attention") {
    AttentionArgs args;
    args.q = a, args.k = args.v = b;
    p = sim::plan_attention(args, processors);
  } else {
    Conv3dArgs args;
    args.x = a, args.weight = b, args.out = view_of(info[5], dtype);
    const auto pads = info[6].As<Napi::Array>();
    const auto pad = [&](uint32_t i) { return pads.Get(i).As<Napi::Number>().Int64Value(); };
    args.pad_left = pad(0), args.pad_right = pad(1), args.pad_h = pad(2), args.pad_w = pad(3);
    args.groups = info[7].As<Napi::Number>().Int64Value();
    args.norm = info[8].ToBoolean();
    p = sim::plan_conv3d(args, processors);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("kernel", p.kernel);
  result.Set("rows", p.rows);
  result.Set("columns", p.columns);
  if (p.last_columns > 0) result.Set("lastColumns", p.last_columns);
  result.Set("cluster", p.cluster);
  result.Set("tiles", static_cast<double>(p.tiles));
  result.Set("rounds", static_cast<double>(p.rounds));
  result.Set("cycles", p.cycles);
  return result;
}

}  // namespace

void register_simulator(Napi::Env env, Napi::Object exports) {
  exports.Set("simulate", Napi::Function::New(env, simulate, "simulate"));
  exports.Set("count", Napi::Function::New(env, count, "count"));
  exports.Set("plan", Napi::Function::New(env, plan, "plan"));
}

}  // namespace fsv::addon
