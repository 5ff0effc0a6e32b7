// conv3d with one channel in and out a group: no product of matrices, only memory and multiply-adds. A thread
// has 16 bytes of neighbouring channels of some neighbouring pixels in a row, so that what windows share it
// reads once; the threads of a warp lie along the channels.
#pragma once

#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/conv.h"

namespace fsv::cuda::kernels {

struct DepthwiseTask {
  Conv conv;
  const void *x = nullptr, *before = nullptr, *weight = nullptr;  ///< weight [kt * kh * kw, C]
  ConvEpilogue epilogue;
};

/// kWide channels and kPixels pixels a thread. kKw: the kernel's width where it is known and the stride 1, so
/// that a pixel is read once for all the windows it lies in; 0 for any.
template <class T_, int kWide_, int kKw_>
struct DepthwiseTile {
  using T = T_;
  static constexpr int kWide = kWide_, kKw = kKw_;
  static constexpr int kPixels = kKw > 0 ? 8 : 4;
  static constexpr int kThreads = 128;
};

namespace conv3d_depthwise_detail {

template <class T, int kWide>
struct alignas(sizeof(T) * kWide) Channels {
  T v[kWide];
};

FSV_DEVICE float widen(float v) { return v; }
FSV_DEVICE float widen(uint16_t v) { return ptx::bf16_lo(v); }
FSV_DEVICE void narrow(float& to, float v) { to = v; }
FSV_DEVICE void narrow(uint16_t& to, float v) { to = static_cast<uint16_t>(ptx::pack_bf16(v, 0)); }

template <int kWide, class T>
FSV_DEVICE void load(const T* from, float (&to)[kWide]) {
  const auto some = ptx::ldg(reinterpret_cast<const Channels<T, kWide>*>(from));
  FSV_UNROLL for (int i = 0; i < kWide; i++) to[i] = widen(some.v[i]);
}

/// What one row of the picture adds to the pixels from output column `first` on.
template <class Tile>
FSV_DEVICE void add_row(const Conv& c, const typename Tile::T* row, const typename Tile::T* weight, int first,
                        float (&sums)[Tile::kPixels][Tile::kWide]) {
  const int left = first * c.stride_w - c.pad_w;
  const auto load_pixel = [&](int w, float(&to)[Tile::kWide]) {
    FSV_UNROLL for (float& v : to) v = 0;
    if (w >= 0 && w < c.width) load(row + int64_t{w} * c.channels, to);
  };
  if constexpr (Tile::kKw > 0) {
    float taps[Tile::kKw][Tile::kWide];
    FSV_UNROLL for (int k = 0; k < Tile::kKw; k++) load(weight + int64_t{k} * c.channels, taps[k]);
    FSV_UNROLL for (int j = 0; j < Tile::kPixels + Tile::kKw - 1; j++) {
      float pixel[Tile::kWide];
      load_pixel(left + j, pixel);
      FSV_UNROLL for (int k = 0; k < Tile::kKw; k++) {
        if (j - k < 0 || j - k >= Tile::kPixels) continue;
        FSV_UNROLL for (int i = 0; i < Tile::kWide; i++) sums[j - k][i] =
            fmaf(pixel[i], taps[k][i], sums[j - k][i]);
      }
    }
  } else {
    for (int k = 0; k < c.kw; k++) {
      float tap[Tile::kWide];
      load(weight + int64_t{k} * c.channels, tap);
      FSV_UNROLL for (int p = 0; p < Tile::kPixels; p++) {
        float pixel[Tile::kWide];
        load_pixel(left + p * c.stride_w + k, pixel);
        FSV_UNROLL for (int i = 0; i < Tile::kWide; i++) sums[p][i] = fmaf(pixel[i], tap[i], sums[p][i]);
      }
    }
  }
}

}  // namespace conv3d_depthwise_detail

template <class Tile>
int64_t depthwise_blocks(const Conv& c) {
  const int64_t strips = (c.out_width + Tile::kPixels - 1) / Tile::kPixels;
  const int64_t items = int64_t{c.batch} * c.out_frames * c.out_height * strips * (c.channels / Tile::kWide);
  return (items + Tile::kThreads - 1) / Tile::kThreads;
}

/// A thread an item; items run over channels, then columns, rows, frames and samples.
template <class Tile>
FSV_KERNEL void FSV_BOUNDS(Tile::kThreads, 1) conv3d_depthwise(FSV_GRID_CONSTANT DepthwiseTask task) {
  using namespace conv3d_depthwise_detail;
  using T = typename Tile::T;
  const Conv& c = task.conv;
  const ConvEpilogue& e = task.epilogue;
  int64_t item = int64_t{blockIdx.x} * Tile::kThreads + threadIdx.x;
  const auto take = [&](int64_t count) {
    const int i = static_cast<int>(item % count);
    item /= count;
    return i;
  };
  const int channel = take(c.channels / Tile::kWide) * Tile::kWide;
  const int first = take((c.out_width + Tile::kPixels - 1) / Tile::kPixels) * Tile::kPixels;
  const int h = take(c.out_height), t = take(c.out_frames);
  if (item >= c.batch) return;
  const int sample = static_cast<int>(item);

  float sums[Tile::kPixels][Tile::kWide] = {};
  for (int kt = 0; kt < c.kt; kt++) {
    const int frame = c.source(t, kt);
    if (frame < 0) continue;
    const bool carried = frame < c.before;
    const int64_t of_clip =
        carried ? int64_t{sample} * c.before + frame : int64_t{sample} * c.frames + frame - c.before;
    const T* picture =
        static_cast<const T*>(carried ? task.before : task.x) + of_clip * c.frame_elements() + channel;
    for (int kh = 0; kh < c.kh; kh++) {
      const int y = h * c.stride_h + kh - c.pad_h;
      if (y < 0 || y >= c.height) continue;
      const T* weight =
          static_cast<const T*>(task.weight) + int64_t{kt * c.kh + kh} * c.kw * c.channels + channel;
      add_row<Tile>(c, picture + int64_t{y} * c.width * c.channels, weight, first, sums);
    }
  }

  FSV_UNROLL for (int p = 0; p < Tile::kPixels; p++) {
    const int w = first + p;
    if (w >= c.out_width) return;
    const int64_t pixel = ((int64_t{sample} * c.out_frames + t) * c.out_height + h) * c.out_width + w;
    const int64_t at = pixel * c.out_channels + channel;
    const float noise = e.noise ? e.noise_weight * ptx::ldg(e.noise + int64_t{h} * c.out_width + w) : 0;
    FSV_UNROLL for (int i = 0; i < Tile::kWide; i++) sums[p][i] +=
        (e.bias ? ptx::ldg(e.bias + channel + i) : 0) + noise;
    activate(e.activation, sums[p]);
    if (e.residual) {
      float residual[Tile::kWide];
      load(static_cast<const T*>(e.residual) + at, residual);
      FSV_UNROLL for (int i = 0; i < Tile::kWide; i++) sums[p][i] += residual[i];
    }
    Channels<T, Tile::kWide> out;
    FSV_UNROLL for (int i = 0; i < Tile::kWide; i++) narrow(out.v[i], sums[p][i]);
    ptx::stg(reinterpret_cast<Channels<T, Tile::kWide>*>(static_cast<T*>(e.out) + at), out);
  }
}

}  // namespace fsv::cuda::kernels
