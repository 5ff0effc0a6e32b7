// The contracts of the ops that know time, height and width: convolution, the two shuffles and the dynamic
// mask.
#include "ops/contract.h"

namespace fsv {
namespace {

constexpr int64_t kMaxStep = 1 << 20;  // strides, paddings and factors: far above any use, far below overflow

/// Positions of a window of `taps` that moves by `stride` over `size` elements.
int64_t positions(int64_t size, int64_t taps, int64_t stride) { return (size - taps) / stride + 1; }

}  // namespace

TensorSpec check(const Conv3dArgs& a) {
  const Contract op("conv3d");
  op.operand("x", a.x, "[B, T, H, W, C]", kFloats);
  op.weight("weight", a.weight, "[O, C / groups, kt, kh, kw]", kFloats, Layout::packed_conv);
  const Shape &x = a.x.shape, &w = a.weight.shape;
  op.divides("groups", a.groups, x[4], "the channels of x");
  op.divides("groups", a.groups, w[0], "the output channels");
  op.require(a.weight.dtype == a.x.dtype && w[1] == x[4] / a.groups && w[2] > 0 && w[3] > 0 && w[4] > 0,
             "weight", a.weight, "[O, ", x[4] / a.groups, ", kt, kh, kw] ", name_of(a.x.dtype),
             " for this x and groups");
  op.range("stride_t", a.stride_t, 1, kMaxStep);
  op.range("stride_h", a.stride_h, 1, kMaxStep);
  op.range("stride_w", a.stride_w, 1, kMaxStep);
  op.range("pad_left", a.pad_left, 0, kMaxStep);
  op.range("pad_right", a.pad_right, 0, kMaxStep);
  op.range("pad_h", a.pad_h, 0, kMaxStep);
  op.range("pad_w", a.pad_w, 0, kMaxStep);

  int64_t before = 0;
  if (a.before) {
    op.operand("before", a.before, "[B, n, H, W, C]", kFloats);
    before = a.before.shape[1];
    op.exactly("before", a.before, a.x.dtype, {x[0], before, x[2], x[3], x[4]});
  }
  const bool copies = a.replicate && a.pad_left + a.pad_right > 0;
  op.require(!copies || before + x[1] > 0, "x", a.x, "at least one frame to pad with");
  const int64_t t = a.pad_left + before + x[1] + a.pad_right, h = x[2] + 2 * a.pad_h,
                width = x[3] + 2 * a.pad_w;
  op.require(t >= w[2] && h >= w[3] && width >= w[4], "x", a.x, "at least the kernel's ",
             Shape{w[2], w[3], w[4]}, " in time, height and width with its padding, which make ",
             Shape{t, h, width});
  op.range("group_size", a.group_size, 0, kMaxElements);
  op.range("group_first", a.group_first, 0, kMaxElements);
  if (a.group_size > 0)
    op.require(w[2] == 3 && a.stride_t == 1 && a.pad_left + before == 1 && a.pad_right == 1, "group_size",
               a.group_size,
               "0 unless kt is 3, stride_t 1, pad_left and the frames of before 1 together, and pad_right 1");

  const Shape y = {x[0], positions(t, w[2], a.stride_t), positions(h, w[3], a.stride_h),
                   positions(width, w[4], a.stride_w), w[0]};
  op.optional("bias", a.bias, DType::f32, {w[0]});
  op.optional("noise", a.noise, DType::f32, {y[2], y[3]});
  op.optional("residual", a.residual, a.x.dtype, y);
  op.finite("noise_weight", a.noise_weight);
  op.activation(a.activation);
  if (a.norm) {
    op.optional("norm.weight", a.norm_weight, DType::f32, {w[0]});
    op.optional("norm.bias", a.norm_bias, DType::f32, {w[0]});
    op.number("norm.eps", a.norm_eps, 0);
    op.require(!a.residual || a.activation == Activation::none, "residual", a.residual,
               "nothing where there is a norm and an activation");
  }
  return op.result(a.x.dtype, y);
}

TensorSpec check(const Unshuffle3dArgs& a) {
  const Contract op("unshuffle3d");
  op.operand("x", a.x, "[B, T, H, W, C]", kFloats);
  const Shape& x = a.x.shape;
  op.range("time", a.time, 1, kMaxStep);
  op.range("space", a.space, 1, kMaxStep);
  op.range("repeat_first", a.repeat_first, 0, x[1] > 0 ? kMaxStep : 0);
  op.divides("time", a.time, x[1] + a.repeat_first, "the frames of x with repeat_first");
  op.divides("space", a.space, x[2], "the height of x");
  op.divides("space", a.space, x[3], "the width of x");
  const int64_t r = times(a.time, a.space * a.space);
  op.divides("channels", a.channels, times(x[4], r), "the channels of x times time * space^2");
  op.range("channels", a.channels, 1, times(x[4], r));
  if (a.shortcut) {
    op.operand("shortcut", a.shortcut, "[B, T, H, W, Cs]", kFloats);
    const int64_t c = a.shortcut.shape[4];
    op.exactly("shortcut", a.shortcut, a.x.dtype, {x[0], x[1], x[2], x[3], c});
    op.require(c > 0 && times(c, r) % a.channels == 0, "shortcut", a.shortcut, "Cs * time * space^2 = Cs * ",
               r, " a multiple of channels ", a.channels);
  }
  return op.result(a.x.dtype,
                   {x[0], (x[1] + a.repeat_first) / a.time, x[2] / a.space, x[3] / a.space, a.channels});
}

TensorSpec check(const Shuffle3dArgs& a) {
  const Contract op("shuffle3d");
  op.operand("x", a.x, "[B, T, H, W, C]", kFloats);
  const Shape& x = a.x.shape;
  op.range("time", a.time, 1, kMaxStep);
  op.range("space", a.space, 1, kMaxStep);
  op.range("channels", a.channels, 1, kMaxElements);
  const int64_t frames = times(x[1], a.time);
  op.range("drop_first", a.drop_first, 0, frames);
  const int64_t filled = times(a.channels, times(a.time, a.space * a.space));
  op.require(x[4] > 0 && filled % x[4] == 0, "channels", a.channels,
             "such that channels * time * space^2 = ", filled, " is a multiple of the channels of x, ", x[4]);
  if (a.shortcut) {
    op.operand("shortcut", a.shortcut, "[B, T, H, W, Cs]", kFloats);
    const int64_t c = a.shortcut.shape[4];
    op.exactly("shortcut", a.shortcut, a.x.dtype, {x[0], x[1], x[2], x[3], c});
    op.require(c > 0 && filled % c == 0, "shortcut", a.shortcut,
               "Cs a divisor of channels * time * space^2 = ", filled);
  }
  return op.result(a.x.dtype,
                   {x[0], frames - a.drop_first, times(x[2], a.space), times(x[3], a.space), a.channels});
}

TensorSpec check(const DynamicMaskArgs& a) {
  const Contract op("dynamic_mask");
  op.operand("a", a.a, "[B, 1, H, W, C]", kFloats);
  const Shape& x = a.a.shape;
  op.require(x[1] == 1, "a", a.a, "one frame");
  op.require(x[4] > 0, "a", a.a, "at least one channel");
  op.exactly("b", a.b, a.a.dtype, x);
  op.range("frames", a.frames, 1, kMaxElements);
  op.range("channels", a.channels, 1, kMaxElements);
  op.finite("lo", a.lo);
  op.number("hi", a.hi, a.lo);
  op.dtype("dtype", a.dtype, kFloats);
  return op.result(a.dtype, {x[0], a.frames, x[2], x[3], a.channels});
}

}  // namespace fsv
