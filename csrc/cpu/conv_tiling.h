// How conv3d cuts its work: the call in the words of the CPU (which input frame a tap reads, whether windows
// are read from x itself), and the size of the tiles that workers take, as a function of shapes and threads.
#pragma once

#include <algorithm>

#include "cpu/conv_layout.h"
#include "cpu/kernels/kernels.h"
#include "ops/ops.h"

namespace fsv::cpu {

inline constexpr int64_t kScratchBytes =
    256 << 10;  // of input under a tile: it shares L2 with a panel of the weight
inline constexpr int64_t kHeavyWeight =
    256 << 10;  // bytes; beyond, a pass over the weight must serve many pixels
inline constexpr int64_t kHeavyPixels = 128;
inline constexpr int64_t kMinCols = 64;
inline constexpr int64_t kLongRow = 48;
inline constexpr int64_t kTasksPerThread = 4;  // so that none waits long for the last one

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline const char* at(const TensorView& view, int64_t element) {
  return static_cast<const char*>(view.data) + element * static_cast<int64_t>(size_of(view.dtype));
}

/// A call, or some columns of its result: the arguments in the words of the tiling. A 1x1 kernel has its rows
/// joined to one.
struct Conv {
  const Conv3dArgs& a;
  const ConvKernels& kernels;
  const GemmKernels& gemm;
  ConvLayout l;
  const char* weight;
  DType dtype, operand;
  int64_t batch, frames, height, width, channels;  ///< of x; channels of all groups
  int64_t before, out_frames, out_height, out_width, out_channels;
  int64_t col_begin = 0, col_end;  ///< of the result
  /// Windows are read from x itself, without a copy; those that reach beyond its sides are left to strips.
  bool direct;
  /// The columns beside those of a direct call, with rows of zeros above and below, so that all of a column
  /// is one product.
  bool strip = false;

  Conv(const Conv3dArgs& args, const Kernels& k, const ConvLayout& layout, const void* packed)
      : a(args), kernels(*k.conv), gemm(*k.gemm), l(layout), weight(static_cast<const char*>(packed)) {
    const Shape &x = a.x.shape, &y = a.out.shape;
    dtype = a.x.dtype;
    operand = dtype == DType::f32 || l.kind == ConvKind::depthwise ? DType::f32 : gemm.bf16_operand;
    batch = x[0], frames = x[1], height = x[2], width = x[3], channels = x[4];
    before = a.before ? a.before.shape[1] : 0;
    out_frames = y[1], out_height = y[2], out_width = y[3], out_channels = y[4];
    const bool padded = a.pad_h > 0 || a.pad_w > 0;
    if (l.kh == 1 && l.kw == 1 && !padded && a.stride_h == 1 && a.stride_w == 1) {
      out_width = width = height * width;
      out_height = height = 1;
    }
    const bool few_cut = !padded || out_height * out_width >= gemm.few_cut_pixels;
    const int64_t last = width + a.pad_w - l.kw;  // where the last whole window begins, if padded
    const int64_t begin = ceil_div(a.pad_w, a.stride_w);
    const int64_t end = last < 0 ? 0 : std::min(last / a.stride_w + 1, out_width);
    direct = l.kind == ConvKind::dense && !l.folded && operand == dtype && (l.kw == 1 || l.groups == 1) &&
             few_cut && begin < end;
    col_begin = direct ? begin : 0;
    col_end = direct ? end : out_width;
  }

  /// The columns from `begin` to `end`, which a direct call leaves out.
  Conv cut(int64_t begin, int64_t end) const {
    Conv c = *this;
    c.col_begin = begin;
    c.col_end = end;
    c.direct = false;
    c.strip = true;
    return c;
  }
  int64_t cols() const { return col_end - col_begin; }
  /// Whether windows that end outside of the picture may leave out the elements there.
  bool can_cut() const { return dtype == DType::f32 || l.in % gemm.depth_bf16 == 0; }

  int64_t operand_bytes() const { return static_cast<int64_t>(size_of(operand)); }
  /// Parts that a tile takes one of: groups, or blocks of channels.
  int64_t parts() const {
    return l.kind == ConvKind::depthwise ? ceil_div(channels, depthwise_channels()) : l.groups;
  }
  /// Channels of a part: half as many when rows are long, so that more rows fit into scratch and fewer are
  /// copied twice.
  int64_t depthwise_channels() const {
    return out_width < kLongRow ? kDepthwiseChannels : kDepthwiseChannels / 2;
  }
  int64_t panels() const { return l.kind == ConvKind::dense ? panel_count(l.out) : 1; }
  int64_t part_weight_bytes() const { return l.bytes / parts(); }

  /// The frame under tap `k` of output frame `t`, or null for zeros.
  const char* frame(int64_t b, int64_t t, int64_t k) const {
    const int64_t size = height * width * channels;
    int64_t i = t * a.stride_t + k - a.pad_left;
    bool inside = i >= 0 && i < before + frames;
    if (a.group_size > 0 && k == 2 &&
        (t < a.group_first || (t - a.group_first) % a.group_size == a.group_size - 1)) {
      i = before + t;
      inside = false;
    }
    if (!inside && !a.replicate) return nullptr;
    i = std::clamp<int64_t>(i, 0, before + frames - 1);
    return i < before ? at(a.before, (b * before + i) * size) : at(a.x, (b * frames + i - before) * size);
  }
};

/// How much of the result a tile takes, and what its input looks like in scratch. Results do not depend on
/// any of it.
struct Tiling {
  int64_t cols, rows, frames, panels;  ///< of a task
  int64_t step = 1;  ///< frames that are computed together: the weight is read once for all of them
  int64_t in_cols, in_rows, slots;  ///< of the input under a step
  int64_t channels;                 ///< depthwise: of a part
  int64_t pitch = 0;                ///< narrow: see PlaneTask
  int64_t row_bytes, slot_bytes;

  Tiling(const Conv& c, int threads) {
    channels = std::min(c.depthwise_channels(), ceil_div(c.channels, 16) * 16);
    cols = c.cols(), rows = c.out_height, frames = c.out_frames, panels = c.panels();
    const bool heavy = c.part_weight_bytes() > kHeavyWeight;
    measure(c);
    while (bytes() > kScratchBytes && halve(rows, heavy ? ceil_div(kHeavyPixels, cols) : 1)) measure(c);
    while (bytes() > kScratchBytes && halve(cols, kMinCols)) measure(c);
    if (heavy) step = std::min(frames, std::max<int64_t>(1, kHeavyPixels / (rows * cols)));
    const int64_t wanted = threads > 1 ? kTasksPerThread * threads : 1;
    const int64_t most_rows = std::max<int64_t>(1, c.l.kh);
    while (tasks(c) < wanted) {
      if (heavy && halve(panels, 1)) continue;
      if (halve(rows, most_rows) || halve(frames, step) || halve(panels, 1) || halve(cols, kMinCols) ||
          halve(rows, 1) || halve(frames, 1))
        continue;
      break;
    }
    step = std::min(step, frames);
    measure(c);
  }

  /// That of the strips beside a direct call: the same, but for the columns.
  Tiling(const Conv& strip, const Tiling& direct) : Tiling(direct) {
    cols = strip.cols();
    measure(strip);
  }

  int64_t bytes() const { return slots * slot_bytes; }
  int64_t tasks(const Conv& c) const {
    return c.batch * c.parts() * ceil_div(c.panels(), panels) * ceil_div(c.out_frames, frames) *
           ceil_div(c.out_height, rows) * ceil_div(c.cols(), cols);
  }

 private:
  static bool halve(int64_t& size, int64_t least) {
    if (size <= least || size == 1) return false;
    size = std::max(least, ceil_div(size, 2));
    return true;
  }
  void measure(const Conv& c) {
    const ConvLayout& l = c.l;
    in_cols = (cols - 1) * c.a.stride_w + l.kw;
    in_rows = l.folded ? rows : (rows - 1) * c.a.stride_h + l.kh;
    slots = (step - 1) * c.a.stride_t + l.kt;
    if (l.kind == ConvKind::narrow) {
      const int64_t planes = c.operand == c.dtype ? l.units : 2 * l.units;
      pitch = ceil_div(ceil_div(in_cols, c.a.stride_w) + kNarrowSlack, 16) * 16;
      row_bytes = planes * c.a.stride_w * pitch * 4;
    } else {
      row_bytes = in_cols * (l.kind == ConvKind::depthwise ? channels : l.pixel) * c.operand_bytes();
    }
    slot_bytes = ceil_div(in_rows * row_bytes, 64) * 64;
  }
};

}  // namespace fsv::cpu
