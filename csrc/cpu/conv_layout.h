// How the CPU computes a convolution and in which order it wants the weights: a function of the weight's
// shape, element type and groups alone, so that `pack` (pack_conv.cpp), the byte counts and `conv3d`
// (conv3d.cpp) agree without a header in the packed data.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "cpu/kernels/conv.h"

namespace fsv::cpu {

enum class ConvKind {
  dense,      ///< implicit matrix product; panels of kernels/gemm.h, [groups][O / 32][segments]
  depthwise,  ///< one channel in and out a group; f32 [kt * kh * kw][channels rounded up to 16]
  narrow,     ///< few outputs; [kt * kh][kw][units][O] of four bytes (a f32, or two channels of bf16)
};

struct ConvLayout {
  ConvKind kind = ConvKind::dense;
  int64_t groups = 1;       ///< after merging
  int64_t merged = 1;       ///< groups of the op in one of ours, off-diagonal weights zero, to fill a panel
  int64_t in = 0, out = 0;  ///< channels of one group of ours
  int64_t kt = 1, kh = 1, kw = 1;
  bool folded =
      false;          ///< the kh rows of a window are channels of one pixel: few channels make longer sums so
  int64_t pixel = 0;  ///< elements of a pixel in scratch
  int64_t segments = 0;  ///< runs of consecutive elements of a window: kt, or kt * kh
  int64_t k = 0;         ///< elements of a segment: kw * pixel
  int64_t units = 0;     ///< narrow: of one tap
  int64_t bytes = 0;     ///< of the packed weight
};

/// weight [O, C / groups, kt, kh, kw].
inline ConvLayout conv_layout(DType dtype, const Shape& weight, int64_t groups) {
  ConvLayout l;
  l.groups = groups;
  l.in = weight[1];
  l.out = weight[0] / groups;
  l.kt = weight[2];
  l.kh = weight[3];
  l.kw = weight[4];
  l.pixel = l.in;
  if (l.in == 1 && l.out == 1 && groups > 1) {
    l.kind = ConvKind::depthwise;
    l.bytes = l.kt * l.kh * l.kw * ((groups + 15) / 16 * 16) * 4;
    return l;
  }
  if (groups == 1 && l.out <= kNarrowOutputs) {
    l.kind = ConvKind::narrow;
    l.units = dtype == DType::f32 ? l.in : (l.in + 1) / 2;
    l.bytes = l.kt * l.kh * l.kw * l.units * l.out * 4;
    return l;
  }
  for (int64_t m = 2; m <= groups && m * l.out <= kPanelCols; m++)
    if (groups % m == 0) l.merged = m;
  l.groups /= l.merged;
  l.in *= l.merged;
  l.out *= l.merged;
  l.folded = l.in <= 4 && l.kh > 1;
  l.pixel = l.folded ? l.in * l.kh : l.in;
  l.segments = l.folded ? l.kt : l.kt * l.kh;
  l.k = l.kw * l.pixel;
  l.bytes = l.groups * panel_count(l.out) * l.segments * segment_bytes(dtype, l.k);
  return l;
}

}  // namespace fsv::cpu
