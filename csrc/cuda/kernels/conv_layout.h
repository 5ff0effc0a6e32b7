// The order in which the CUDA kernels want the weight of a convolution: a function of the weight's element
// type, shape and groups alone, so that `pack`, the byte counts and `conv3d` agree without a header in the
// packed data, and so that the Hopper and the portable kernel read the same bytes.
//
// A convolution is a matrix product over k = kt * kh * kw * in. Its sum runs over
// [kt][kw][slices][kh][slice]: a slice is a run of channels that one TMA box can take, and the rows of the
// kernel come right inside of it because they are the taps that share a box (conv3d_sm90.cuh). Packed:
// [groups][k / chunk][out][chunk], a chunk being a run of k.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace fsv::cuda::kernels {

enum class ConvKind : int8_t {
  sliced,     ///< a chunk is a slice of one tap's channels, zeros behind the last channel
  folded,     ///< channels that no slice fits: chunks of 64 bytes run on over the taps, zeros at the end
  depthwise,  ///< one channel in and out a group: [kt][kh][kw][channels]
};

struct ConvLayout {
  ConvKind kind = ConvKind::folded;
  int64_t groups = 1, in = 0, out = 0;  ///< channels of one group
  int64_t kt = 1, kh = 1, kw = 1;
  int64_t slice = 0, slices = 1;  ///< channels of a slice, slices of a group
  int64_t chunk = 0;
  int64_t k = 0;  ///< rounded up to whole chunks

  constexpr int64_t chunks() const { return k / chunk; }
  constexpr int64_t elements() const { return kind == ConvKind::depthwise ? k * groups : groups * out * k; }

  /// The element of the plain weight [groups * out, in, kt, kh, kw] that element `i` of the packed one is; -1
  /// for zero.
  constexpr int64_t source(int64_t i) const {
    if (kind == ConvKind::depthwise) return i % groups * k + i / groups;
    int64_t place = i % chunk;
    i /= chunk;
    const int64_t o = i % out;
    i /= out;
    place += i % (k / chunk) * chunk;
    const int64_t group = i / (k / chunk);
    const int64_t channel = place % slice, h = place / slice % kh, row = place / slice / kh;
    const int64_t c = row % slices * slice + channel, w = row / slices % kw, t = row / slices / kw;
    if (c >= in || t >= kt) return -1;
    return ((((group * out + o) * in + c) * kt + t) * kh + h) * kw + w;
  }
};

inline constexpr int64_t kFoldedChunkBytes = 64;

/// weight [O, C / groups, kt, kh, kw] of f32 or bf16.
inline ConvLayout conv_layout(DType dtype, const Shape& weight, int64_t groups) {
  ConvLayout l;
  l.groups = groups;
  l.in = weight[1];
  l.out = weight[0] / groups;
  l.kt = weight[2], l.kh = weight[3], l.kw = weight[4];
  const int64_t taps = l.kt * l.kh * l.kw;
  if (l.in == 1 && l.out == 1 && groups > 1) {
    l.kind = ConvKind::depthwise;
    l.slice = l.chunk = 1;
    l.k = taps;
    return l;
  }
  // TMA takes pixels of whole 16 bytes; a box must not reach into the next group's channels.
  if (dtype == DType::bf16 && (groups == 1 ? l.in > 8 && l.in % 8 == 0 : l.in > 0 && l.in % 16 == 0)) {
    l.kind = ConvKind::sliced;
    int64_t padded = 0;
    for (int64_t slice : {64, 32, 16}) {
      const int64_t with = (l.in + slice - 1) / slice * slice;
      if (padded > 0 && with >= padded) continue;
      padded = with;
      l.slice = l.chunk = slice;
    }
    l.slices = padded / l.slice;
    l.k = taps * padded;
    return l;
  }
  l.slice = l.in;
  l.chunk = kFoldedChunkBytes / static_cast<int64_t>(size_of(dtype));
  l.k = (taps * l.in + l.chunk - 1) / l.chunk * l.chunk;
  return l;
}

}  // namespace fsv::cuda::kernels
