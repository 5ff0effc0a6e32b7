// conv3d on the CPU. The result is cut into tiles: some frames, rows and columns of one sample, and some of
// its channels. A worker copies the input frames under a tile, with their borders of zeros, into its scratch;
// there every window is a few runs of consecutive numbers, at the same distance from one pixel to the next,
// which is all that the matrix product of kernels/gemm.h asks of its rows. Padding in time copies nothing:
// taps are mapped to frames, frames to places in scratch, and a frame that the next step needs again stays
// where it is.
#include <algorithm>
#include <memory>
#include <new>

#include "cpu/backend.h"
#include "cpu/conv_layout.h"
#include "cpu/pack.h"

namespace fsv::cpu {
namespace {

constexpr int64_t kScratchBytes = 256 << 10;  // of input under a tile: half of L2 on current server cores
constexpr int64_t kHeavyWeight = 256 << 10;  // bytes; beyond, a pass over the weight should serve many pixels
constexpr int64_t kHeavyPixels = 256;
constexpr int64_t kMinCols = 64;
constexpr int64_t kTasksPerThread = 4;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

const char* at(const TensorView& view, int64_t element) {
  return static_cast<const char*>(view.data) + element * static_cast<int64_t>(size_of(view.dtype));
}

/// One call: the arguments in the words of the tiling. A 1x1 kernel has its rows joined to one.
struct Conv {
  const Conv3dArgs& a;
  const ConvKernels& kernels;
  const GemmKernels& gemm;
  ConvLayout l;
  const char* weight;
  DType dtype, operand;
  int64_t batch, frames, height, width, channels;  ///< of x; channels of all groups
  int64_t before, out_frames, out_height, out_width, out_channels;
  bool direct;  ///< windows are read from x itself, without a copy

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
    direct =
        l.kind == ConvKind::dense && !padded && !l.folded && operand == dtype && (l.kw == 1 || l.groups == 1);
  }

  int64_t operand_bytes() const { return static_cast<int64_t>(size_of(operand)); }
  /// Parts that a tile takes one of: groups, or blocks of channels.
  int64_t parts() const {
    return l.kind == ConvKind::depthwise ? ceil_div(channels, kDepthwiseChannels) : l.groups;
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

/// How much of the result a tile takes, and what its input looks like in scratch.
struct Tiling {
  int64_t cols, rows, frames, panels;  ///< of a task
  int64_t step = 1;  ///< frames that are computed together: the weight is read once for all of them
  int64_t in_cols, in_rows, slots;  ///< of the input under a step
  int64_t channels;                 ///< depthwise: of a part
  int64_t pitch = 0;                ///< narrow: see PlaneTask
  int64_t row_bytes, slot_bytes;

  Tiling(const Conv& c, int threads) {
    channels = std::min(kDepthwiseChannels, ceil_div(c.channels, 16) * 16);
    cols = c.out_width, rows = c.out_height, frames = c.out_frames, panels = c.panels();
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

  int64_t bytes() const { return slots * slot_bytes; }
  int64_t tasks(const Conv& c) const {
    return c.batch * c.parts() * ceil_div(c.panels(), panels) * ceil_div(c.out_frames, frames) *
           ceil_div(c.out_height, rows) * ceil_div(c.out_width, cols);
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

/// A worker at work on one tile.
class Tile {
 public:
  static size_t scratch_bytes(const Conv& c, const Tiling& t) {
    const int64_t pointers = t.slots + t.step * c.l.kt + c.l.kh + 2 * c.l.kt * c.l.kh;
    return static_cast<size_t>((c.direct ? 0 : t.bytes()) + pointers * 8);
  }

  Tile(const Conv& c, const Tiling& tiling, int64_t index, void* scratch) : c_(c), t_(tiling) {
    const auto take = [&](int64_t whole, int64_t size, int64_t& first, int64_t& count) {
      const int64_t parts = ceil_div(whole, size), i = index % parts;
      index /= parts;
      first = i * size;
      count = std::min(size, whole - first);
    };
    // Tasks that share a part of the weight follow each other.
    take(c.out_width, t_.cols, col_, cols_);
    take(c.out_height, t_.rows, row_, rows_);
    take(c.out_frames, t_.frames, frame_, frames_);
    int64_t one;
    take(c.batch, 1, sample_, one);
    take(c.panels(), t_.panels, panel_, panels_);
    part_ = index;
    slots_ = static_cast<char*>(scratch);
    held_ = reinterpret_cast<const char**>(slots_ + (c.direct ? 0 : t_.bytes()));
    taps_ = held_ + t_.slots;
    from_ = reinterpret_cast<const void**>(taps_ + t_.step * c.l.kt);
    offsets_ = reinterpret_cast<int64_t*>(from_ + c.l.kh);
    weight_offsets_ = offsets_ + c.l.kt * c.l.kh;
  }

  void run() {
    std::fill(held_, held_ + t_.slots, nullptr);
    for (int64_t t = frame_; t < frame_ + frames_; t += t_.step) {
      const int64_t count = std::min(t_.step, frame_ + frames_ - t);
      find_taps(t, count);
      for (int64_t p = panel_; p < panel_ + panels_; p++)
        for (int64_t i = 0; i < count; i++)
          for (int64_t r = 0; r < rows_; r++) {
            if (p == panel_ && t + t_.step + i < frame_ + frames_) call_row(t + t_.step + i, r);
            row(p, t, i, r);
          }
    }
  }

 private:
  /// taps_[i * kt + k]: where the frame under tap k of output frame t + i is to be read, null for zeros.
  void find_taps(int64_t t, int64_t count) {
    const int64_t n = count * c_.l.kt;
    for (int64_t j = 0; j < n; j++) taps_[j] = c_.frame(sample_, t + j / c_.l.kt, j % c_.l.kt);
    if (c_.direct) return;
    for (int64_t s = 0; s < t_.slots; s++)
      if (std::find(taps_, taps_ + n, held_[s]) == taps_ + n) held_[s] = nullptr;
    for (int64_t j = 0; j < n; j++) {
      if (!taps_[j] || std::find(held_, held_ + t_.slots, taps_[j]) != held_ + t_.slots) continue;
      const char** free = std::find(held_, held_ + t_.slots, nullptr);
      *free = taps_[j];
      lay(taps_[j], slots_ + (free - held_) * t_.slot_bytes);
    }
    for (int64_t j = 0; j < n; j++)
      if (taps_[j])
        taps_[j] = slots_ + (std::find(held_, held_ + t_.slots, taps_[j]) - held_) * t_.slot_bytes;
  }

  /// Calls the input below row `r` of output frame `t`, a later one, into cache: it will be copied after this
  /// step.
  void call_row(int64_t t, int64_t r) const {
    const char* frame = c_.frame(sample_, t, c_.l.kt - 1);
    const int64_t y = (row_ + r) * c_.a.stride_h;
    if (!frame || y >= c_.height || std::find(held_, held_ + t_.slots, frame) != held_ + t_.slots) return;
    const int64_t pixel = c_.channels * static_cast<int64_t>(size_of(c_.dtype));
    const char* from = frame + (y * c_.width + col_ * c_.a.stride_w) * pixel;
    for (const char* end = from + cols_ * c_.a.stride_w * pixel; from < end; from += 64)
      __builtin_prefetch(from, 0, 2);
  }

  /// The input under the tile, of one frame, into its place in scratch.
  void lay(const char* frame, char* slot) {
    const ConvLayout& l = c_.l;
    const int64_t x0 = col_ * c_.a.stride_w - c_.a.pad_w;
    PlaneTask planes;
    RowTask& row = planes.row;
    const int64_t in_cols = (cols_ - 1) * c_.a.stride_w + l.kw;
    const int64_t left = std::clamp<int64_t>(-x0, 0, in_cols);
    const int64_t pixels = std::clamp<int64_t>(c_.width - x0 - left, 0, in_cols - left);
    row.rows = l.folded ? l.kh : 1;
    row.from = from_;
    row.from_dtype = c_.dtype;
    row.to_dtype = c_.operand;
    row.pixel_stride = c_.channels;
    row.left = left;
    row.pixels = pixels;
    row.right = in_cols - left - pixels;
    int64_t channel = part_ * l.in;
    row.channels = l.in;
    row.to_stride = l.pixel;
    if (l.kind == ConvKind::depthwise) {
      channel = part_ * kDepthwiseChannels;
      row.channels = std::min(t_.channels, c_.channels - channel);
      row.to_stride = t_.channels;
    }
    planes.stride = c_.a.stride_w;
    planes.pitch = t_.pitch;
    const int64_t in_rows = l.folded ? rows_ : (rows_ - 1) * c_.a.stride_h + l.kh;
    for (int64_t i = 0; i < in_rows; i++, slot += t_.row_bytes) {
      bool any = false;
      for (int64_t h = 0; h < row.rows; h++) {
        const int64_t y = (l.folded ? (row_ + i) * c_.a.stride_h + h : row_ * c_.a.stride_h + i) - c_.a.pad_h;
        const bool inside = y >= 0 && y < c_.height;
        from_[h] = inside && pixels > 0 ? frame + ((y * c_.width + x0 + left) * c_.channels + channel) *
                                                      static_cast<int64_t>(size_of(c_.dtype))
                                        : nullptr;
        any = any || inside;
      }
      if (!any) continue;  // nobody reads it
      row.to = planes.to = slot;
      if (l.kind == ConvKind::narrow)
        c_.kernels.lay_planes(planes);
      else
        c_.kernels.lay_row(row);
    }
  }

  /// Row `r` of output frame t + i; `p` is the panel of the weight if there are panels.
  void row(int64_t p, int64_t t, int64_t i, int64_t r) {
    const ConvLayout& l = c_.l;
    switch (l.kind) {
      case ConvKind::dense: {
        const int64_t element = c_.operand_bytes();
        GemmTask task;
        task.row_stride = c_.a.stride_w * (c_.direct ? c_.channels : l.pixel) * element;
        task.rows = cols_;
        task.k = l.k;
        task.a = slots_ + (c_.direct ? (col_ * c_.a.stride_w * c_.channels + part_ * l.in) * element : 0);
        const int64_t segment = segment_bytes(c_.dtype, l.k);
        task.segments = find_segments(i, r, segment);
        task.segment_offsets = offsets_;
        task.panels = c_.weight + (part_ * c_.panels() + p) * l.segments * segment;
        task.panel_offsets = weight_offsets_;
        task.cols = std::min(kPanelCols, l.out - p * kPanelCols);
        task.epilogue = epilogue(t + i, r, part_ * l.out + p * kPanelCols);
        return (c_.dtype == DType::f32 ? c_.gemm.multiply_f32 : c_.gemm.multiply_bf16)(task);
      }
      case ConvKind::depthwise: {
        const int64_t first = part_ * kDepthwiseChannels;
        DepthwiseTask task;
        task.weight_stride = ceil_div(c_.channels, 16) * 16;
        task.window = {slots_, offsets_, c_.weight + first * 4, weight_offsets_};
        task.window.segments = find_segments(i, r, l.kw * task.weight_stride * 4);
        task.window.kw = l.kw;
        task.window.stride = c_.a.stride_w;
        task.channels = t_.channels;
        task.pixels = cols_;
        task.cols = std::min(t_.channels, c_.channels - first);
        task.epilogue = epilogue(t + i, r, first);
        return c_.kernels.depthwise(task);
      }
      case ConvKind::narrow: {
        NarrowTask task;
        task.window = {slots_, offsets_, c_.weight, weight_offsets_};
        task.window.segments = find_segments(i, r, l.kw * l.units * l.out * 4);
        task.window.kw = l.kw;
        task.window.stride = c_.a.stride_w;
        task.units = l.units;
        task.pitch = t_.pitch;
        task.outputs = l.out;
        task.pixels = cols_;
        task.epilogue = epilogue(t + i, r, 0);
        return (c_.dtype == DType::f32 ? c_.kernels.narrow_f32 : c_.kernels.narrow_bf16)(task);
      }
    }
  }

  /// The rows of input under row `r` of the step's output frame `i` (offsets_, from slots_) and the weights
  /// they meet (weight_offsets_, `weight_bytes` a row). Rows of zeros, outside of the picture or of time, are
  /// left out.
  int64_t find_segments(int64_t i, int64_t r, int64_t weight_bytes) const {
    const ConvLayout& l = c_.l;
    const int64_t in_row = c_.direct ? c_.width * c_.channels * c_.operand_bytes() : t_.row_bytes;
    const int64_t y = (row_ + r) * c_.a.stride_h - c_.a.pad_h;  // of the first row in the picture
    const int64_t first = l.folded ? r : c_.direct ? y : r * c_.a.stride_h;
    const int64_t rows = l.folded ? 1 : l.kh;
    const int64_t begin = l.folded ? 0 : std::clamp<int64_t>(-y, 0, rows);
    const int64_t end = l.folded ? 1 : std::clamp<int64_t>(c_.height - y, begin, rows);
    int64_t n = 0;
    for (int64_t k = 0; k < l.kt; k++) {
      const char* frame = taps_[i * l.kt + k];
      if (!frame) continue;
      for (int64_t h = begin; h < end; h++, n++) {
        offsets_[n] = frame - slots_ + (first + h) * in_row;
        weight_offsets_[n] = (k * rows + h) * weight_bytes;
      }
    }
    return n;
  }

  /// From output channel `channel` on, of row `r` of the tile in output frame `t`.
  Epilogue epilogue(int64_t t, int64_t r, int64_t channel) const {
    const int64_t pixel = (row_ + r) * c_.out_width + col_;
    const int64_t element =
        ((sample_ * c_.out_frames + t) * c_.out_height * c_.out_width + pixel) * c_.out_channels + channel;
    Epilogue e;
    if (c_.a.bias) e.bias = c_.a.bias.as<const float>() + channel;
    if (c_.a.noise) e.row_bias = c_.a.noise.as<const float>() + pixel;
    e.row_scale = c_.a.noise_weight;
    e.activation = c_.a.activation;
    if (c_.a.residual) e.residual = at(c_.a.residual, element);
    e.out = const_cast<char*>(at(c_.a.out, element));
    e.out_stride = c_.out_channels;
    e.out_dtype = c_.dtype;
    return e;
  }

  const Conv& c_;
  const Tiling& t_;
  int64_t sample_, part_, panel_, panels_, frame_, frames_, row_, rows_, col_, cols_;
  char* slots_;                         ///< t_.slots frames of input
  const char** held_;                   ///< the frame in each of them, null when free
  const char** taps_;                   ///< [step][kt]
  const void** from_;                   ///< [kh], for RowTask
  int64_t *offsets_, *weight_offsets_;  ///< [kt * kh]
};

}  // namespace

void CpuBackend::conv3d(const Conv3dArgs& args) {
  if (args.out.elements() == 0) return;
  const ConvLayout layout = conv_layout(args.weight.dtype, args.weight.shape, args.groups);
  const void* packed = args.weight.data;
  const auto free = [](void* p) { ::operator delete(p, std::align_val_t{64}); };
  std::unique_ptr<void, decltype(free)> own(nullptr, free);
  if (args.weight.layout == Layout::plain) {
    PackArgs pack;
    pack.weight = args.weight;
    pack.layout = Layout::packed_conv;
    pack.groups = args.groups;
    own.reset(::operator new(static_cast<size_t>(layout.bytes), std::align_val_t{64}));
    pack.out = args.weight;
    pack.out.data = own.get();
    pack_conv(pack, kernels_, pool_);
    packed = own.get();
  }
  const Conv conv(args, kernels_, layout, packed);
  const Tiling tiling(conv, pool_.size());
  const size_t bytes = Tile::scratch_bytes(conv, tiling);
  for (int w = 0; w < pool_.size(); w++) pool_.scratch(w, bytes);
  pool_.parallel_for(tiling.tasks(conv), 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; i++) Tile(conv, tiling, i, pool_.scratch(worker, bytes)).run();
  });
}

}  // namespace fsv::cpu
