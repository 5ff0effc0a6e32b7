// The contracts of layer memory and of the norms.
#include "ops/contract.h"

namespace fsv {

TensorSpec check(const LayerMemoryArgs& a) {
  const Contract op("layer_memory");
  op.range("count", a.count, 1, kMaxStates);
  op.operand("states[0]", a.states[0], "[B, N, C]", kFloats);
  const Shape& x = a.states[0].shape;
  const DType dtype = a.states[0].dtype;
  for (int i = 1; i < a.count; i++)
    if (!is(a.states[i], dtype, x)) op.exactly(text("states[", i, "]").c_str(), a.states[i], dtype, x);
  op.exactly("router_input", a.router_input, dtype, x);
  op.exactly("router", a.router, dtype, {a.count, x[2]});
  op.optional("router_bias", a.router_bias, DType::f32, {a.count});
  op.optional("scale", a.scale, DType::f32, {x[0], x[2]});
  op.optional("shift", a.shift, DType::f32, {x[0], x[2]});
  op.optional("weights", a.weights, DType::f32, {x[0], x[1], a.count});
  op.number("eps", a.eps, 0);
  op.dtype("dtype", a.dtype, DTypes(dtype) | DType::f8e4m3);
  op.out_scales(a.out_scales, a.dtype, x);
  return op.result(a.dtype, x);
}

TensorSpec check(const NormModulateArgs& a) {
  const Contract op("norm_modulate");
  op.operand("x", a.x, "[B, ..., C]", kFloats);
  const int64_t b = a.x.shape[0], c = a.x.shape[-1];
  op.optional("weight", a.weight, DType::f32, {c});
  op.optional("bias", a.bias, DType::f32, {c});
  op.optional("scale", a.scale, DType::f32, {b, c});
  op.optional("shift", a.shift, DType::f32, {b, c});
  op.number("eps", a.eps, 0);
  op.dtype("dtype", a.dtype, kAnyFloats);
  op.out_scales(a.out_scales, a.dtype, a.x.shape);
  return op.result(a.dtype, a.x.shape);
}

TensorSpec check(const QkNormRopeArgs& a) {
  const Contract op("qk_norm_rope");
  op.operand("x", a.x, "[B, N, H * D]", kFloats);
  const Shape& x = a.x.shape;
  op.divides("heads", a.heads, x[2], "the channels of x");
  const int64_t d = x[2] / a.heads;
  op.optional("weight", a.weight, DType::f32, {x[2]});
  if (a.rotations) {
    op.require(d % 2 == 0, "heads", a.heads, "such that heads have an even size, not ", d);
    op.exactly("rotations", a.rotations, DType::f32, {x[1], d / 2, 2});
  }
  op.number("eps", a.eps, 0);
  return op.result(a.x.dtype, {x[0], x[1], a.heads, d});
}

TensorSpec check(const PixelNormArgs& a) {
  const Contract op("pixel_norm");
  op.operand("x", a.x, "[..., C]", kFloats);
  const int64_t c = a.x.shape[-1];
  op.optional("weight", a.weight, DType::f32, {c});
  op.optional("bias", a.bias, DType::f32, {c});
  op.optional("residual", a.residual, a.x.dtype, a.x.shape);
  op.activation(a.activation);
  op.number("eps", a.eps, 0);
  return op.result(a.x.dtype, a.x.shape);
}

TensorSpec check(const GroupNormArgs& a) {
  const Contract op("group_norm");
  op.operand("x", a.x, "[B, ..., C]", kFloats);
  const int64_t c = a.x.shape[-1];
  op.divides("groups", a.groups, c, "the channels of x");
  op.optional("weight", a.weight, DType::f32, {c});
  op.optional("bias", a.bias, DType::f32, {c});
  op.optional("residual", a.residual, a.x.dtype, a.x.shape);
  op.activation(a.activation);
  op.number("eps", a.eps, 0);
  return op.result(a.x.dtype, a.x.shape);
}

}  // namespace fsv
