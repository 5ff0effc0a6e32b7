// One convolution of the kernel tests: random operands, the result in fp64, and the rule of test/numbers.ts:
// at most twice the error of a plain implementation, the largest and the root mean square. Written from the
// contract in ops/ops.h alone: time is a list of frames that is spelled out, weights are plain, space is
// looped over.
#pragma once

#include "cuda/kernels/conv.h"
#include "simulator/cases/harness.h"

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
  Conv3dArgs args(DType dtype) const;
};

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

  explicit ConvData(const ConvCase& a, unsigned seed = 1);

  size_t elements() const {
    return size_t(c.batch) * c.out_frames() * c.out_height() * c.out_width() * c.outputs;
  }

 private:
  /// The frames that a convolution over time sees, as frames of [before | x]; -1 for zeros.
  std::vector<int> padded_time() const;

  /// What follows the sums of a pixel, of which the result's first element is `first`.
  template <class Real>
  std::vector<Real> finished(std::vector<Real> v, size_t first) const;

  void reference();
};

extern template struct ConvData<Bf16>;
extern template struct ConvData<float>;

}  // namespace fsv::test
