// What every op costs at least: floating point operations (a multiply-add counts two, a comparison or an
// exponential one) and bytes (every operand read once, the result written once). Least bytes are a bound, not
// a prediction: an operand that stays in a cache between two ops moves less.
#include <initializer_list>

#include "ops/ops.h"

namespace fsv {
namespace {

double count(const Shape& shape) { return static_cast<double>(shape.elements()); }
double elements(const TensorSpec& tensor) { return count(tensor.shape); }
double bytes(const TensorSpec& tensor) { return static_cast<double>(tensor.bytes()); }

double moved(const TensorSpec& result, std::initializer_list<const TensorView*> operands) {
  double sum = bytes(result);
  for (const TensorView* operand : operands)
    if (*operand) sum += bytes(*operand);
  return sum;
}

constexpr double kPixelNorm = 3;  // of an element: its square, the sum, the quotient

double flops(Activation activation) { return activation == Activation::none ? 0 : 1; }

/// One operation for each of these that is given: what an epilogue adds to an element.
double steps(std::initializer_list<const TensorView*> operands) {
  double sum = 0;
  for (const TensorView* operand : operands) sum += *operand ? 1 : 0;
  return sum;
}

}  // namespace

Cost cost(const LinearArgs& a) {
  const TensorSpec y = check(a);
  const double multiply = 2.0 * static_cast<double>(a.x.shape[-1]);
  const double epilogue = steps({&a.bias, &a.gate, &a.residual}) + flops(a.activation);
  return {elements(y) * (multiply + epilogue), moved(y, {&a.x, &a.x_scale, &a.weight, &a.weight_scale,
                                                         &a.bias, &a.gate, &a.residual, &a.out_scales})};
}

Cost cost(const AttentionArgs& a) {
  const TensorSpec y = check(a);
  const double scores = count({y.shape[0], y.shape[2], y.shape[1], a.k.shape[1]});
  return {scores * (4.0 * static_cast<double>(y.shape[3]) + 2 + steps({&a.bias})),
          moved(y, {&a.q, &a.k, &a.v, &a.bias, &a.key_lengths})};
}

Cost cost(const LinearAttentionArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * (4.0 * static_cast<double>(a.head_dim + 1) + 2), moved(y, {&a.qkv})};
}

Cost cost(const LayerMemoryArgs& a) {
  const TensorSpec y = check(a);
  const double norm = 5, modulate = 2, states = a.count;
  Cost cost = {
      elements(y) * (4 * states + (a.pre_mix ? states : 1) * norm + modulate),
      moved(y, {&a.router_input, &a.router, &a.router_bias, &a.scale, &a.shift, &a.weights, &a.out_scales})};
  for (int i = 0; i < a.count; i++) cost.bytes += bytes(a.states[i]);
  return cost;
}

Cost cost(const NormModulateArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * ((a.rms ? 3 : 5) + steps({&a.weight, &a.bias, &a.scale, &a.shift})),
          moved(y, {&a.x, &a.weight, &a.bias, &a.scale, &a.shift, &a.out_scales})};
}

Cost cost(const QkNormRopeArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * (4 * steps({&a.weight}) + 3 * steps({&a.rotations})),
          moved(y, {&a.x, &a.weight, &a.rotations})};
}

Cost cost(const PixelNormArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * (kPixelNorm + steps({&a.weight, &a.bias, &a.residual}) + flops(a.activation)),
          moved(y, {&a.x, &a.weight, &a.bias, &a.residual})};
}

Cost cost(const GroupNormArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * (5 + steps({&a.weight, &a.bias, &a.residual}) + flops(a.activation)),
          moved(y, {&a.x, &a.weight, &a.bias, &a.residual})};
}

Cost cost(const Conv3dArgs& a) {
  const TensorSpec y = check(a);
  const double multiply = 2.0 * static_cast<double>(a.weight.shape.elements(1, 5));
  const double norm = a.norm ? kPixelNorm + steps({&a.norm_weight, &a.norm_bias}) : 0;
  const double epilogue = steps({&a.bias, &a.noise, &a.residual}) + norm + flops(a.activation);
  return {elements(y) * (multiply + epilogue), moved(y, {&a.x, &a.before, &a.weight, &a.bias, &a.noise,
                                                         &a.norm_weight, &a.norm_bias, &a.residual})};
}

Cost cost(const Unshuffle3dArgs& a) {
  const TensorSpec y = check(a);
  const double averaged = elements(a.x) + (a.shortcut ? elements(a.shortcut) : 0) - elements(y);
  return {averaged > 0 ? averaged : 0, moved(y, {&a.x, &a.shortcut})};
}

Cost cost(const Shuffle3dArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * steps({&a.shortcut}), moved(y, {&a.x, &a.shortcut})};
}

Cost cost(const CombineArgs& a) {
  const TensorSpec y = check(a);
  Cost cost = {elements(y) * 2 * a.count, moved(y, {&a.factors})};
  for (int i = 0; i < a.count; i++) cost.bytes += bytes(a.terms[i]);
  return cost;
}

Cost cost(const RandnArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * 6, bytes(y)};
}

Cost cost(const FillArgs& a) { return {0, bytes(check(a))}; }

Cost cost(const CastArgs& a) { return {0, moved(check(a), {&a.x})}; }

Cost cost(const ConcatArgs& a) { return {0, 2 * bytes(check(a))}; }

Cost cost(const SliceArgs& a) { return {0, 2 * bytes(check(a))}; }

Cost cost(const PermuteArgs& a) { return {0, 2 * bytes(check(a))}; }

Cost cost(const EmbeddingArgs& a) { return {0, 2 * bytes(check(a)) + bytes(a.ids)}; }

Cost cost(const ModulationArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y), moved(y, {&a.table, &a.embedding})};
}

Cost cost(const AffineArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * 2, moved(y, {&a.x, &a.scale, &a.shift})};
}

Cost cost(const ActivateArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * flops(a.activation), moved(y, {&a.x})};
}

Cost cost(const GluArgs& a) {
  const TensorSpec y = check(a);
  return {elements(y) * 2, moved(y, {&a.x})};
}

Cost cost(const FromRgb8Args& a) {
  const TensorSpec y = check(a);
  return {elements(y) * 2, moved(y, {&a.x})};
}

Cost cost(const ToRgb8Args& a) {
  const TensorSpec y = check(a);
  return {elements(y) * 4, moved(y, {&a.x})};
}

Cost cost(const QuantizeFp8Args& a) {
  const TensorSpec y = check(a);
  return {elements(y) * 2, moved(y, {&a.x, &a.scales})};
}

Cost cost(const DequantizeFp8Args& a) {
  const TensorSpec y = check(a);
  return {elements(y), moved(y, {&a.x, &a.scales})};
}

Cost cost(const AllFiniteArgs& a) {
  const TensorSpec y = check(a);
  return {elements(a.x), moved(y, {&a.x})};
}

Cost cost(const DynamicMaskArgs& a) {
  const TensorSpec y = check(a);
  return {elements(a.a) * 3 + count({y.shape[0], y.shape[2], y.shape[3]}) * 3, moved(y, {&a.a, &a.b})};
}

Cost cost(const PackArgs& a) { return {0, moved(check(a), {&a.weight, &a.scales})}; }

}  // namespace fsv
