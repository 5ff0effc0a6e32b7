// The contracts of the ops that multiply: linear, attention, linear attention, and the packing of weights.
#include "ops/contract.h"

namespace fsv {

TensorSpec check(const LinearArgs& a) {
  const Contract op("linear");
  op.operand("x", a.x, "[..., K]", kAnyFloats);
  op.weight("weight", a.weight, "[N, K]", kAnyFloats, Layout::packed_linear);
  const int64_t n = a.weight.shape[0], k = a.x.shape[-1];
  const bool fp8 = a.weight.dtype == DType::f8e4m3;
  // fp8 weights become bf16 on their way to a bf16 x, plain or packed.
  const bool fits = fp8 ? a.x.dtype != DType::f32 : a.weight.dtype == a.x.dtype;
  op.require(a.weight.shape[1] == k && fits, "weight", a.weight, "[N, ", k, "] ",
             a.x.dtype == DType::bf16  ? "bf16 or f8e4m3"
             : a.x.dtype == DType::f32 ? "f32"
                                       : "f8e4m3",
             " for this x");
  if (a.x.dtype == DType::f8e4m3) {
    op.scales("x_scale", a.x_scale, a.x.shape);
  } else {
    op.require(!a.x_scale, "x_scale", a.x_scale, "nothing beside an x that is not f8e4m3");
  }
  if (fp8)
    op.exactly("weight_scale", a.weight_scale, DType::f32, {n});
  else
    op.require(!a.weight_scale, "weight_scale", a.weight_scale, "nothing beside a weight that is not f8e4m3");
  op.dtype("dtype", a.dtype, kAnyFloats);
  op.activation(a.activation);

  Shape y = a.x.shape;
  y[-1] = n;
  op.out_scales(a.out_scales, a.dtype, y);
  if (a.dtype == DType::f8e4m3) {
    op.require(!a.residual, "residual", a.residual, "nothing beside a result of f8e4m3");
    op.require(!a.gate, "gate", a.gate, "nothing beside a result of f8e4m3");
  }
  op.optional("bias", a.bias, DType::f32, {n});
  op.optional("residual", a.residual, a.dtype, y);
  const Shape a_sample = {a.x.shape[0], n};
  op.require(!a.gate || is(a.gate, a.dtype, y) || (y.rank > 1 && is(a.gate, DType::f32, a_sample)), "gate",
             a.gate, y, " ", name_of(a.dtype), " or ", a_sample, " f32");
  return op.result(a.dtype, y);
}

TensorSpec check(const AttentionArgs& a) {
  const Contract op("attention");
  op.operand("q", a.q, "[B, Nq, H, D]", kFloats);
  op.operand("k", a.k, "[B, Nk, H, D]", kFloats);
  const Shape& q = a.q.shape;
  const int64_t nk = a.k.shape[1];
  op.exactly("k", a.k, a.q.dtype, {q[0], nk, q[2], q[3]});
  op.exactly("v", a.v, a.q.dtype, a.k.shape);
  op.optional("bias", a.bias, DType::f32, {q[2], q[1], nk});
  op.optional("key_lengths", a.key_lengths, DType::i32, {q[0]});
  op.finite("scale", a.scale);
  return op.result(a.q.dtype, q);
}

TensorSpec check(const LinearAttentionArgs& a) {
  const Contract op("linear_attention");
  op.operand("qkv", a.qkv, "[F..., N, H * 3 * D]", kFloats);
  op.require(a.qkv.shape[-1] % 3 == 0, "qkv", a.qkv, "a last dimension that 3 divides");
  op.divides("head_dim", a.head_dim, a.qkv.shape[-1] / 3, "a third of qkv's last dimension");
  op.number("eps", a.eps, 0);
  Shape y = a.qkv.shape;
  y[-1] /= 3;
  return op.result(a.qkv.dtype, y);
}

TensorSpec check(const PackArgs& a) {
  const Contract op("pack");
  const bool conv = a.layout == Layout::packed_conv;
  op.require(conv || a.layout == Layout::packed_linear, "layout", "plain", "packed_linear or packed_conv");
  if (conv) {
    op.operand("weight", a.weight, "[O, C / groups, kt, kh, kw]", kFloats);
    op.divides("groups", a.groups, a.weight.shape[0], "the output channels");
  } else {
    op.operand("weight", a.weight, "[N, K]", kAnyFloats);
    op.require(a.groups == 1, "groups", a.groups, "1 for packed_linear");
  }
  const bool fp8 = a.weight.dtype == DType::f8e4m3;
  if (fp8)
    op.exactly("scales", a.scales, DType::f32, {a.weight.shape[0]});
  else
    op.require(!a.scales, "scales", a.scales, "nothing beside a weight that is not f8e4m3");
  return op.result(fp8 ? DType::bf16 : a.weight.dtype, a.weight.shape, a.layout);
}

}  // namespace fsv
