#include "simulator/cases/conv_case.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace fsv::test {

Conv3dArgs ConvCase::args(DType dtype) const {
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

template <class T>
ConvData<T>::ConvData(const ConvCase& a, unsigned seed) : c(a) {
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

template <class T>
std::vector<int> ConvData<T>::padded_time() const {
  std::vector<int> time;
  const int last = c.before + c.frames - 1;
  for (int i = 0; i < c.left; i++) time.push_back(c.replicate ? 0 : -1);
  for (int i = 0; i <= last; i++) time.push_back(i);
  for (int i = 0; i < c.right; i++) time.push_back(c.replicate ? last : -1);
  return time;
}

template <class T>
template <class Real>
std::vector<Real> ConvData<T>::finished(std::vector<Real> v, size_t first) const {
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
    v[o] = Real(activate(c.activation, v[o]));
    if (c.residual) v[o] += Real(to_float(residual[first + o]));
  }
  return v;
}

template <class T>
void ConvData<T>::reference() {
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
              const bool ends = t < c.group_first ||
                                (c.group_size > 0 && (t - c.group_first) % c.group_size == c.group_size - 1);
              if (c.group_size > 0 && f == 2 && ends) frame = c.replicate ? c.before + t : -1;
              if (frame < 0) continue;
              const T* clip =
                  frame < c.before
                      ? before.data() + size_t(b * c.before + frame) * c.height * c.width * c.channels
                      : x.data() + size_t(b * c.frames + frame - c.before) * c.height * c.width * c.channels;
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

template struct ConvData<Bf16>;
template struct ConvData<float>;

}  // namespace fsv::test
