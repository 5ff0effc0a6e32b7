// One convolution of the kernel tests: random operands, the result in fp64, and the rule of test/numbers.ts:
// at most twice the error of a plain implementation, the largest and the root mean square. Written from the
// contract in ops/ops.h alone: time is a list of frames that is spelled out, weights are plain, space is
// looped over.
#pragma once

#include <random>

#include "cuda/kernels/conv.h"
#include "simulator/kernels/harness.h"

namespace fsv::test {

struct ConvCase {
  const char* name = "";
  int batch = 1, frames = 1, height = 1, width = 1, channels = 16, outputs = 16;
  int kernel[3] = {3, 3, 3}, stride[3] = {1, 1, 1};
  int left = 1, right = 1, pad_h = 1, pad_w = 1;
  int before = 0, groups = 1;
  int group_size = 0, group_first = 0;
  bool replicate = true, bias = false, noise = false, residual = false;
  bool norm = false, norm_weight = false, norm_bias = false;
  float norm_eps = 1e-8f;
  Activation activation = Activation::none;

  int out_frames() const { return (left + before + frames + right - kernel[0]) / stride[0] + 1; }
  int out_height() const { return (height + 2 * pad_h - kernel[1]) / stride[1] + 1; }
  int out_width() const { return (width + 2 * pad_w - kernel[2]) / stride[2] + 1; }

  static constexpr float kNoiseWeight = 0.25f;

  /// The op's arguments, without data.
  Conv3dArgs args(DType dtype) const {
    Conv3dArgs a;
    const auto view = [](DType type, const Shape& shape) { return TensorView({type, shape}, nullptr); };
    a.x = view(dtype, {batch, frames, height, width, channels});
    if (before) a.before = view(dtype, {batch, before, height, width, channels});
    a.weight = view(dtype, {outputs, channels / groups, kernel[0], kernel[1], kernel[2]});
    if (bias) a.bias = view(DType::f32, {outputs});
    if (noise) a.noise = view(DType::f32, {out_height(), out_width()});
    a.out = view(dtype, {batch, out_frames(), out_height(), out_width(), outputs});
    if (residual) a.residual = a.out;
    a.stride_t = stride[0], a.stride_h = stride[1], a.stride_w = stride[2];
    a.pad_left = left, a.pad_right = right, a.pad_h = pad_h, a.pad_w = pad_w;
    a.groups = groups;
    a.group_size = group_size, a.group_first = group_first;
    a.replicate = replicate;
    a.activation = activation;
    a.noise_weight = kNoiseWeight;
    a.norm = norm;
    a.norm_eps = norm_eps;
    if (norm_weight) a.norm_weight = view(DType::f32, {outputs});
    if (norm_bias) a.norm_bias = view(DType::f32, {outputs});
    return a;
  }
};

inline double activated(Activation kind, double x) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
  }
  return x;
}

/// T: Bf16 or float.
template <class T>
struct ConvData {
  static constexpr bool kBf16 = sizeof(T) == 2;
  ConvCase c;
  std::vector<T> x, before, weight, residual;
  std::vector<float> bias, noise, norm_weight, norm_bias;
  std::vector<double> truth;
  std::vector<float> plain;
  static T stored(float v) {
    if constexpr (kBf16)
      return to_bf16(v);
    else
      return v;
  }

  explicit ConvData(const ConvCase& a, unsigned seed = 1) : c(a) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](auto& to, size_t count, float scale) {
      to.resize(count);
      for (auto& v : to)
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, T>)
          v = stored(normal(random) * scale);
        else
          v = normal(random) * scale;
    };
    const size_t pixels = size_t(c.height) * c.width * c.channels;
    const int taps = c.channels / c.groups * c.kernel[0] * c.kernel[1] * c.kernel[2];
    fill(x, c.batch * c.frames * pixels, 1);
    fill(before, c.batch * c.before * pixels, 1);
    fill(weight, size_t(c.outputs) * taps, 1 / std::sqrt(float(taps)));
    if (c.bias) fill(bias, c.outputs, 1);
    if (c.noise) fill(noise, size_t(c.out_height()) * c.out_width(), 1);
    if (c.residual) fill(residual, elements(), 1);
    if (c.norm_weight) fill(norm_weight, c.outputs, 1);
    if (c.norm_bias) fill(norm_bias, c.outputs, 1);
    reference();
  }

  size_t elements() const {
    return size_t(c.batch) * c.out_frames() * c.out_height() * c.out_width() * c.outputs;
  }

 private:
  /// The frames that a convolution over time sees, as frames of [before | x]; -1 for zeros.
  std::vector<int> padded_time() const {
    std::vector<int> time;
    const int last = c.before + c.frames - 1;
    for (int i = 0; i < c.left; i++) time.push_back(c.replicate ? 0 : -1);
    for (int i = 0; i <= last; i++) time.push_back(i);
    for (int i = 0; i < c.right; i++) time.push_back(c.replicate ? last : -1);
    return time;
  }

  /// What follows the sums of a pixel, of which the result's first element is `first`.
  template <class Real>
  std::vector<Real> finished(std::vector<Real> v, size_t first) const {
    Real factor = 1;
    if (c.norm) {
      Real squares = 0;
      for (Real x : v) squares += x * x;
      factor = 1 / std::sqrt(squares / Real(c.outputs) + Real(c.norm_eps));
    }
    for (size_t o = 0; o < v.size(); o++) {
      v[o] *= factor;
      if (c.norm_weight) v[o] *= Real(norm_weight[o]);
      if (c.norm_bias) v[o] += Real(norm_bias[o]);
      v[o] = Real(activated(c.activation, v[o]));
      if (c.residual) v[o] += Real(to_float(residual[first + o]));
    }
    return v;
  }

  void reference() {
    const std::vector<int> time = padded_time();
    const int in = c.channels / c.groups, out = c.outputs / c.groups;
    const auto [kt, kh, kw] = c.kernel;
    truth.resize(elements()), plain.resize(elements());
    std::vector<double> exact(c.outputs);
    std::vector<float> simple(c.outputs);
    size_t i = 0;
    for (int b = 0; b < c.batch; b++)
      for (int t = 0; t < c.out_frames(); t++)
        for (int y = 0; y < c.out_height(); y++)
          for (int z = 0; z < c.out_width(); z++) {
            for (int o = 0; o < c.outputs; o++) {
              double sum = 0;
              float rounded = 0;
              for (int f = 0; f < kt; f++) {
                int frame = time[t * c.stride[0] + f];
                const bool ends =
                    t < c.group_first ||
                    (c.group_size > 0 && (t - c.group_first) % c.group_size == c.group_size - 1);
                if (c.group_size > 0 && f == 2 && ends) frame = c.replicate ? c.before + t : -1;
                if (frame < 0) continue;
                const T* clip = frame < c.before ? before.data() + size_t(b * c.before + frame) * c.height *
                                                                       c.width * c.channels
                                                 : x.data() + size_t(b * c.frames + frame - c.before) *
                                                                  c.height * c.width * c.channels;
                for (int h = 0; h < kh; h++)
                  for (int w = 0; w < kw; w++) {
                    const int row = y * c.stride[1] + h - c.pad_h, col = z * c.stride[2] + w - c.pad_w;
                    if (row < 0 || row >= c.height || col < 0 || col >= c.width) continue;
                    const T* pixel = clip + (size_t(row) * c.width + col) * c.channels + o / out * in;
                    for (int k = 0; k < in; k++) {
                      const float a = to_float(pixel[k]),
                                  v = to_float(weight[(((size_t(o) * in + k) * kt + f) * kh + h) * kw + w]);
                      sum += double(a) * v;
                      rounded += a * v;
                    }
                  }
              }
              const float bias_of = c.bias ? bias[o] : 0,
                          noise_of = c.noise ? c.kNoiseWeight * noise[size_t(y) * c.out_width() + z] : 0;
              exact[o] = sum + bias_of + noise_of;
              simple[o] = rounded + bias_of + noise_of;
            }
            const std::vector<double> right = finished(exact, i);
            const std::vector<float> close = finished(simple, i);
            for (int o = 0; o < c.outputs; o++, i++) {
              truth[i] = right[o];
              plain[i] = kBf16 ? to_float(to_bf16(close[o])) : close[o];
            }
          }
  }
};

}  // namespace fsv::test
