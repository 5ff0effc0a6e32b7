// A convolution as its CUDA kernels see it: sizes, which input frame a tap reads, and what happens to a sum.
// The sizes of one dimension are ints, offsets of elements are 64 bits. For host and device.
#pragma once

#include <cstdint>

#include "cuda/kernels/conv_layout.h"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

struct Conv {
  int batch = 0, frames = 0, height = 0, width = 0, channels = 0;  ///< of x
  int before = 0;                                                  ///< frames in front of x
  int out_frames = 0, out_height = 0, out_width = 0, out_channels = 0;
  int groups = 1, in = 0, out = 0;  ///< in, out: channels of one group
  int kt = 1, kh = 1, kw = 1;
  int stride_t = 1, stride_h = 1, stride_w = 1;
  int pad_left = 0, pad_h = 0, pad_w = 0;
  int64_t group_size = 0, group_first = 0;
  bool replicate = true;

  constexpr int64_t frame_elements() const { return int64_t{height} * width * channels; }
  constexpr int64_t out_pixels() const { return int64_t{batch} * out_frames * out_height * out_width; }

  /// The frame under tap `k` of output frame `t`, counted from the first one of `before`; -1 for zeros.
  /// Copies, frames of another chunk and neighbours of another group are a choice of the frame here, and
  /// nothing is ever copied.
  constexpr int source(int t, int k) const {
    const int last = before + frames - 1;
    int i = t * stride_t + k - pad_left;
    bool inside = i >= 0 && i <= last;
    const bool ends_group =
        t < group_first || (group_size > 0 && (t - group_first) % group_size == group_size - 1);
    if (group_size > 0 && k == 2 && ends_group) {
      i = before + t;
      inside = false;
    }
    if (!inside && !replicate) return -1;
    return i < 0 ? 0 : i > last ? last : i;
  }
};

/// y = act(norm(sum + bias + noise_weight * noise)) + residual, null pointers for what is not there.
struct ConvEpilogue {
  const float* bias = nullptr;   ///< [O]
  const float* noise = nullptr;  ///< [H', W']
  float noise_weight = 0;
  bool norm = false;                                         ///< conv3d_sm90 alone knows it
  const float *norm_weight = nullptr, *norm_bias = nullptr;  ///< [O]
  float norm_eps = 0;
  Activation activation = Activation::none;
  const void* residual = nullptr;  ///< as out
  void* out = nullptr;             ///< [B, T', H', W', O]
};

/// A 1x1 kernel that neither skips nor pads has its rows joined to one: tiles fill better.
inline Conv conv_of(const Conv3dArgs& a) {
  Conv c;
  const Shape &x = a.x.shape, &w = a.weight.shape, &y = a.out.shape;
  const auto fit = [](int64_t size) { return static_cast<int>(size); };
  c.batch = fit(x[0]), c.frames = fit(x[1]), c.height = fit(x[2]), c.width = fit(x[3]),
  c.channels = fit(x[4]);
  c.before = a.before ? fit(a.before.shape[1]) : 0;
  c.out_frames = fit(y[1]), c.out_height = fit(y[2]), c.out_width = fit(y[3]), c.out_channels = fit(y[4]);
  c.groups = fit(a.groups), c.in = fit(w[1]), c.out = fit(w[0] / a.groups);
  c.kt = fit(w[2]), c.kh = fit(w[3]), c.kw = fit(w[4]);
  c.stride_t = fit(a.stride_t), c.stride_h = fit(a.stride_h), c.stride_w = fit(a.stride_w);
  c.pad_left = fit(a.pad_left), c.pad_h = fit(a.pad_h), c.pad_w = fit(a.pad_w);
  c.group_size = a.group_size, c.group_first = a.group_first;
  c.replicate = a.replicate;
  const bool pointwise =
      c.kh == 1 && c.kw == 1 && c.pad_h == 0 && c.pad_w == 0 && c.stride_h == 1 && c.stride_w == 1;
  if (pointwise && x[2] * x[3] <= INT32_MAX) {
    c.width = c.out_width = c.height * c.width;
    c.height = c.out_height = 1;
  }
  return c;
}

}  // namespace fsv::cuda::kernels
