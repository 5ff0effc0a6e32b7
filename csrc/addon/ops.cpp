// One function an op: the arguments of ops/ops.h in the order of lib/ops.ts.
#include "addon/binding.h"

namespace fsv::addon {
namespace {

using Info = Napi::CallbackInfo;

#define FSV_OP(name)                                                          \
  Napi::Value name(const Info& info) {                                        \
    return guarded(info, [&] { return run_##name(Arguments(info, #name)); }); \
  }

/// The result, or [values, scales] where it is of fp8.
template <class Args>
Napi::Value launch_scaled(Arguments& in, void (Backend::*op)(const Args&), Args a) {
  if (a.dtype != DType::f8e4m3) return in.launch(op, a);
  Tensor scales = in.device().empty({DType::f32, group_scales(check(a).shape), Layout::plain});
  a.out_scales = scales.view;
  Napi::Array out = Napi::Array::New(in.env(), 2);
  out.Set(0u, in.launch(op, a));
  out.Set(1u, wrap(in.env(), std::move(scales)));
  return out;
}

Napi::Value run_linear(Arguments in) {
  LinearArgs a;
  a.x = in.tensor("x");
  a.x_scale = in.tensor("xScale");
  a.weight = in.tensor("weight");
  a.weight_scale = in.tensor("weightScale");
  a.bias = in.tensor("bias");
  a.gate = in.tensor("gate");
  a.residual = in.tensor("residual");
  a.activation = in.activation("activation");
  a.dtype = in.dtype("dtype");
  return launch_scaled(in, &Backend::linear, a);
}

Napi::Value run_attention(Arguments in) {
  AttentionArgs a;
  a.q = in.tensor("q");
  a.k = in.tensor("k");
  a.v = in.tensor("v");
  a.bias = in.tensor("bias");
  a.key_lengths = in.tensor("keyLengths");
  a.scale = static_cast<float>(in.number("scale"));
  return in.launch(&Backend::attention, a);
}

Napi::Value run_linear_attention(Arguments in) {
  LinearAttentionArgs a;
  a.qkv = in.tensor("qkv");
  a.head_dim = in.integer("headDim");
  a.eps = static_cast<float>(in.number("eps"));
  return in.launch(&Backend::linear_attention, a);
}

/// [memory or [values, scales], weights?]
Napi::Value run_layer_memory(Arguments in) {
  LayerMemoryArgs a;
  a.count = in.tensors("states", a.states, kMaxStates);
  a.router_input = in.tensor("routerInput");
  a.router = in.tensor("router");
  a.router_bias = in.tensor("routerBias");
  a.scale = in.tensor("scale");
  a.shift = in.tensor("shift");
  a.pre_mix = in.flag();
  a.eps = static_cast<float>(in.number("eps"));
  a.dtype = in.dtype("dtype");
  Napi::Array out = Napi::Array::New(in.env());
  if (in.flag()) {
    check(a);
    const Shape& x = a.states[0].shape;
    Tensor weights = in.device().empty({DType::f32, {x[0], x[1], a.count}, Layout::plain});
    a.weights = weights.view;
    out.Set(1u, wrap(in.env(), std::move(weights)));
  }
  out.Set(0u, launch_scaled(in, &Backend::layer_memory, a));
  return out;
}

Napi::Value run_norm_modulate(Arguments in) {
  NormModulateArgs a;
  a.x = in.tensor("x");
  a.weight = in.tensor("weight");
  a.bias = in.tensor("bias");
  a.scale = in.tensor("scale");
  a.shift = in.tensor("shift");
  a.rms = in.flag();
  a.eps = static_cast<float>(in.number("eps"));
  a.dtype = in.dtype("dtype");
  return launch_scaled(in, &Backend::norm_modulate, a);
}

Napi::Value run_qk_norm_rope(Arguments in) {
  QkNormRopeArgs a;
  a.x = in.tensor("x");
  a.weight = in.tensor("weight");
  a.rotations = in.tensor("rotations");
  a.heads = in.integer("heads");
  a.eps = static_cast<float>(in.number("eps"));
  return in.launch(&Backend::qk_norm_rope, a);
}

Napi::Value run_pixel_norm(Arguments in) {
  PixelNormArgs a;
  a.x = in.tensor("x");
  a.weight = in.tensor("weight");
  a.bias = in.tensor("bias");
  a.residual = in.tensor("residual");
  a.activation = in.activation("activation");
  a.eps = static_cast<float>(in.number("eps"));
  return in.launch(&Backend::pixel_norm, a);
}

Napi::Value run_group_norm(Arguments in) {
  GroupNormArgs a;
  a.x = in.tensor("x");
  a.weight = in.tensor("weight");
  a.bias = in.tensor("bias");
  a.residual = in.tensor("residual");
  a.groups = in.integer("groups");
  a.activation = in.activation("activation");
  a.eps = static_cast<float>(in.number("eps"));
  return in.launch(&Backend::group_norm, a);
}

Napi::Value run_conv3d(Arguments in) {
  Conv3dArgs a;
  a.x = in.tensor("x");
  a.before = in.tensor("before");
  a.weight = in.tensor("weight");
  a.bias = in.tensor("bias");
  a.noise = in.tensor("noise");
  a.residual = in.tensor("residual");
  const Shape stride = in.shape("stride");
  if (stride.rank != 3) throw invalid_argument("conv3d.stride", stride.text(), "[time, height, width]");
  a.stride_t = stride[0];
  a.stride_h = stride[1];
  a.stride_w = stride[2];
  a.pad_left = in.integer("padLeft");
  a.pad_right = in.integer("padRight");
  a.pad_h = in.integer("padHeight");
  a.pad_w = in.integer("padWidth");
  a.groups = in.integer("groups");
  a.group_size = in.integer("groupSize");
  a.group_first = in.integer("groupFirst");
  a.replicate = in.flag();
  a.activation = in.activation("activation");
  a.noise_weight = static_cast<float>(in.number("noiseWeight"));
  a.norm = in.flag();
  a.norm_weight = in.tensor("norm.weight");
  a.norm_bias = in.tensor("norm.bias");
  a.norm_eps = static_cast<float>(in.number("norm.eps"));
  return in.launch(&Backend::conv3d, a);
}

Napi::Value run_unshuffle3d(Arguments in) {
  Unshuffle3dArgs a;
  a.x = in.tensor("x");
  a.shortcut = in.tensor("shortcut");
  a.time = in.integer("time");
  a.space = in.integer("space");
  a.repeat_first = in.integer("repeatFirst");
  a.channels = in.integer("channels");
  return in.launch(&Backend::unshuffle3d, a);
}

Napi::Value run_shuffle3d(Arguments in) {
  Shuffle3dArgs a;
  a.x = in.tensor("x");
  a.shortcut = in.tensor("shortcut");
  a.time = in.integer("time");
  a.space = in.integer("space");
  a.drop_first = in.integer("dropFirst");
  a.channels = in.integer("channels");
  return in.launch(&Backend::shuffle3d, a);
}

/// Coefficients are a list of numbers or an f32 tensor.
Napi::Value run_combine(Arguments in) {
  CombineArgs a;
  a.count = in.tensors("terms", a.terms, kMaxTerms);
  const Napi::Value coefficients = in.next();
  if (coefficients.IsArray()) {
    const auto list = coefficients.As<Napi::Array>();
    if (static_cast<int>(list.Length()) != a.count)
      throw invalid_argument(in.name("coefficients"), text(list.Length(), " numbers"),
                             text(a.count, " numbers"));
    for (int i = 0; i < a.count; i++) {
      const Napi::Value item = list.Get(static_cast<uint32_t>(i));
      const double c = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : NAN;
      if (!std::isfinite(c))
        throw invalid_argument(text(in.name("coefficients"), "[", i, "]"), item.ToString(),
                               "a finite number");
      a.coefficients[i] = static_cast<float>(c);
    }
  } else {
    a.factors = in.device().use(tensor_of(coefficients, "combine.coefficients"), "combine.coefficients");
  }
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::combine, a);
}

uint64_t to_u64(const Napi::Value& value, const std::string& field) {
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t n = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return n;
  } else if (value.IsNumber()) {
    const double n = value.As<Napi::Number>().DoubleValue();
    if (n >= 0 && n == std::floor(n) && n <= 9007199254740991.0) return static_cast<uint64_t>(n);
  }
  throw invalid_argument(field, value.ToString(), "an integer in 0 .. 2^64 - 1 (a bigint beyond 2^53 - 1)");
}

Napi::Value run_randn(Arguments in) {
  RandnArgs a;
  a.shape = in.shape("shape");
  const Napi::Value seeds = in.next();
  if (!seeds.IsArray() || seeds.As<Napi::Array>().Length() > kMaxStates ||
      (a.shape.rank > 0 && static_cast<int64_t>(seeds.As<Napi::Array>().Length()) != a.shape[0]))
    throw invalid_argument(in.name("seeds"), seeds.ToString(),
                           text("a list of at most ", kMaxStates, " seeds, one a sample"));
  for (uint32_t i = 0; i < seeds.As<Napi::Array>().Length(); i++)
    a.seeds[i] = to_u64(seeds.As<Napi::Array>().Get(i), text(in.name("seeds"), "[", i, "]"));
  a.stream = to_u64(in.next(), in.name("stream"));
  a.offset = to_u64(in.next(), in.name("offset"));
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::randn, a);
}

Napi::Value run_fill(Arguments in) {
  FillArgs a;
  a.shape = in.shape("shape");
  a.value = static_cast<float>(in.number("value"));
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::fill, a);
}

Napi::Value run_cast(Arguments in) {
  CastArgs a;
  a.x = in.tensor("x");
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::cast, a);
}

Napi::Value run_concat(Arguments in) {
  ConcatArgs a;
  a.count = in.tensors("parts", a.parts, kMaxStates);
  a.axis = static_cast<int>(in.integer("axis"));
  return in.launch(&Backend::concat, a);
}

Napi::Value run_slice(Arguments in) {
  SliceArgs a;
  a.x = in.tensor("x");
  a.axis = static_cast<int>(in.integer("axis"));
  a.start = in.integer("start");
  a.end = in.integer("end");
  return in.launch(&Backend::slice, a);
}

Napi::Value run_permute(Arguments in) {
  PermuteArgs a;
  a.x = in.tensor("x");
  const Shape order = in.shape("order");
  if (order.rank != a.x.shape.rank)
    throw invalid_argument("permute.order", order.text(), text("each axis of ", a.x.shape.text(), " once"));
  for (int i = 0; i < order.rank; i++) a.order[i] = static_cast<int>(order[i]);
  return in.launch(&Backend::permute, a);
}

Napi::Value run_embedding(Arguments in) {
  EmbeddingArgs a;
  a.table = in.tensor("table");
  a.ids = in.tensor("ids");
  return in.launch(&Backend::embedding, a);
}

Napi::Value run_modulation(Arguments in) {
  ModulationArgs a;
  a.table = in.tensor("table");
  a.embedding = in.tensor("embedding");
  return in.launch(&Backend::modulation, a);
}

Napi::Value run_affine(Arguments in) {
  AffineArgs a;
  a.x = in.tensor("x");
  a.scale = in.tensor("scale");
  a.shift = in.tensor("shift");
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::affine, a);
}

Napi::Value run_activate(Arguments in) {
  ActivateArgs a;
  a.x = in.tensor("x");
  a.activation = in.activation("activation");
  return in.launch(&Backend::activate, a);
}

Napi::Value run_glu(Arguments in) {
  GluArgs a;
  a.x = in.tensor("x");
  return in.launch(&Backend::glu, a);
}

Napi::Value run_from_rgb8(Arguments in) {
  FromRgb8Args a;
  a.x = in.tensor("x");
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::from_rgb8, a);
}

Napi::Value run_to_rgb8(Arguments in) {
  ToRgb8Args a;
  a.x = in.tensor("x");
  return in.launch(&Backend::to_rgb8, a);
}

/// [values, scales]
Napi::Value run_quantize_fp8(Arguments in) {
  QuantizeFp8Args a;
  a.x = in.tensor("x");
  const bool groups = in.flag();
  check(a);
  const Shape shape = groups ? group_scales(a.x.shape) : row_scales(a.x.shape);
  Tensor scales = in.device().empty({DType::f32, shape, Layout::plain});
  a.scales = scales.view;
  Napi::Array out = Napi::Array::New(in.env(), 2);
  out.Set(0u, in.launch(&Backend::quantize_fp8, a));
  out.Set(1u, wrap(in.env(), std::move(scales)));
  return out;
}

Napi::Value run_dequantize_fp8(Arguments in) {
  DequantizeFp8Args a;
  a.x = in.tensor("x");
  a.scales = in.tensor("scales");
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::dequantize_fp8, a);
}

Napi::Value run_all_finite(Arguments in) {
  AllFiniteArgs a;
  a.x = in.tensor("x");
  return in.launch(&Backend::all_finite, a);
}

Napi::Value run_dynamic_mask(Arguments in) {
  DynamicMaskArgs a;
  a.a = in.tensor("a");
  a.b = in.tensor("b");
  a.frames = in.integer("frames");
  a.channels = in.integer("channels");
  a.lo = static_cast<float>(in.number("lo"));
  a.hi = static_cast<float>(in.number("hi"));
  a.scalar = in.flag();
  a.confidence = in.flag();
  a.dtype = in.dtype("dtype");
  return in.launch(&Backend::dynamic_mask, a);
}

Napi::Value run_pack(Arguments in) {
  PackArgs a;
  a.weight = in.tensor("weight");
  a.scales = in.tensor("scales");
  a.layout = in.flag() ? Layout::packed_conv : Layout::packed_linear;
  a.groups = in.integer("groups");
  check(a);
  return in.launch(&Backend::pack, a, in.device().backend().packed_bytes(a));
}

#define FSV_WRAP(name, Name) FSV_OP(name)
FSV_FOR_EACH_OP(FSV_WRAP)

}  // namespace

void register_ops(Napi::Env env, Napi::Object exports) {
#define FSV_EXPORT(name, Name) exports.Set(#name, Napi::Function::New(env, name, #name));
  FSV_FOR_EACH_OP(FSV_EXPORT)
}

}  // namespace fsv::addon
