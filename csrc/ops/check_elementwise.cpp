// The contracts of the ops that make, convert or change elements one by one.
#include <cmath>

#include "ops/contract.h"

namespace fsv {

TensorSpec check(const CombineArgs& a) {
  const Contract op("combine");
  op.range("count", a.count, 1, kMaxTerms);
  op.operand("terms[0]", a.terms[0], "[...]", kFloats);
  for (int i = 1; i < a.count; i++) {
    const TensorView& x = a.terms[i];
    if (!(x.given && x.layout == Layout::plain && kFloats.has(x.dtype) && x.shape == a.terms[0].shape))
      op.require(false, text("terms[", i, "]").c_str(), x, a.terms[0].shape.text(), " ", kFloats.text());
  }
  op.optional("factors", a.factors, DType::f32, {a.count});
  if (!a.factors)
    for (int i = 0; i < a.count; i++)
      if (!std::isfinite(a.coefficients[i]))
        op.finite(text("coefficients[", i, "]").c_str(), a.coefficients[i]);
  op.dtype("dtype", a.dtype, kFloats);
  return op.result(a.dtype, a.terms[0].shape);
}

TensorSpec check(const RandnArgs& a) {
  const Contract op("randn");
  op.require(a.shape.rank >= 1 && a.shape.rank <= kMaxRank, "shape", text("rank ", a.shape.rank), "[B, ...]");
  op.require(a.shape[0] >= 0 && a.shape[0] <= kMaxStates, "shape", a.shape, "at most ", kMaxStates,
             " samples");
  op.require(a.offset % 4 == 0, "offset", a.offset, "a multiple of 4");
  op.dtype("dtype", a.dtype, kFloats);
  return op.result(a.dtype, a.shape);
}

TensorSpec check(const FillArgs& a) {
  const Contract op("fill");
  op.dtype("dtype", a.dtype, kAnyDType);
  if (a.dtype == DType::i32 || a.dtype == DType::u8) {
    const double least = a.dtype == DType::u8 ? 0 : -0x1p31, most = a.dtype == DType::u8 ? 255 : 0x1p31 - 1;
    op.require(a.value == std::floor(a.value) && a.value >= least && a.value <= most, "value", a.value,
               "a whole number that ", name_of(a.dtype), " has");
  }
  return op.result(a.dtype, a.shape);
}

TensorSpec check(const CastArgs& a) {
  const Contract op("cast");
  op.operand("x", a.x, "[...]", kAnyFloats | DType::i32);
  op.dtype("dtype", a.dtype,
           a.x.dtype == DType::i32   ? DTypes(DType::f32) | DType::i32
           : a.x.dtype == DType::f32 ? kAnyFloats | DType::i32
                                     : kAnyFloats);
  return op.result(a.dtype, a.x.shape);
}

TensorSpec check(const ModulationArgs& a) {
  const Contract op("modulation");
  op.operand("table", a.table, "[K, C]", DType::f32);
  op.operand("embedding", a.embedding, "[B, K * C]", DType::f32);
  const int64_t k = a.table.shape[0], c = a.table.shape[1], b = a.embedding.shape[0];
  op.exactly("embedding", a.embedding, DType::f32, {b, times(k, c)});
  return op.result(DType::f32, {k, b, c});
}

TensorSpec check(const AffineArgs& a) {
  const Contract op("affine");
  op.operand("x", a.x, "[..., C]", kFloats);
  op.exactly("scale", a.scale, DType::f32, {a.x.shape[-1]});
  op.exactly("shift", a.shift, DType::f32, {a.x.shape[-1]});
  op.dtype("dtype", a.dtype, kFloats);
  return op.result(a.dtype, a.x.shape);
}

TensorSpec check(const ActivateArgs& a) {
  const Contract op("activate");
  op.operand("x", a.x, "[...]", kFloats);
  op.activation(a.activation);
  return op.result(a.x.dtype, a.x.shape);
}

TensorSpec check(const GluArgs& a) {
  const Contract op("glu");
  op.operand("x", a.x, "[..., 2 * C]", kFloats);
  op.require(a.x.shape[-1] % 2 == 0, "x", a.x, "an even last dimension");
  Shape y = a.x.shape;
  y[-1] /= 2;
  return op.result(a.x.dtype, y);
}

TensorSpec check(const FromRgb8Args& a) {
  const Contract op("from_rgb8");
  op.operand("x", a.x, "[...]", DType::u8);
  op.dtype("dtype", a.dtype, kFloats);
  return op.result(a.dtype, a.x.shape);
}

TensorSpec check(const ToRgb8Args& a) {
  const Contract op("to_rgb8");
  op.operand("x", a.x, "[...]", kFloats);
  return op.result(DType::u8, a.x.shape);
}

TensorSpec check(const QuantizeFp8Args& a) {
  const Contract op("quantize_fp8");
  op.operand("x", a.x, "[..., K]", kFloats);
  if (a.scales)
    op.scales("scales", a.scales, a.x.shape);  // a result too: not there when shapes are asked for
  return op.result(DType::f8e4m3, a.x.shape);
}

TensorSpec check(const DequantizeFp8Args& a) {
  const Contract op("dequantize_fp8");
  op.operand("x", a.x, "[..., K]", DType::f8e4m3);
  op.scales("scales", a.scales, a.x.shape);
  op.dtype("dtype", a.dtype, kFloats);
  return op.result(a.dtype, a.x.shape);
}

TensorSpec check(const AllFiniteArgs& a) {
  const Contract op("all_finite");
  op.operand("x", a.x, "[...]", kFloats);
  return op.result(DType::i32, {1});
}

}  // namespace fsv
