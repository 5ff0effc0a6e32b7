// conv3d on the CPU. The result is cut into tiles: some frames, rows and columns of one sample, and some of
// its channels. In a channels-last input a window is a few runs of consecutive numbers, one for each of its
// rows in each of its frames, and from one pixel to the next all of them move by the same distance: that is
// all that the matrix product of kernels/gemm.h asks of its rows. Where the product wants another type of
// numbers, where frames are small, and in the strips along the sides whose windows reach beyond the picture,
// a worker first copies the input under its tile into its scratch, with borders of zeros. Padding in time
// copies nothing: taps are mapped to frames, frames to places in scratch, and a frame that the next step
// needs again stays where it is. A norm that follows takes the rows of a tile while they are in cache, where
// the tile has all of their channels, and else all rows at the end.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "cpu/backend.h"
#include "cpu/conv_tiling.h"
#include "cpu/norm.h"
#include "cpu/pack.h"
#include "cpu/ranges.h"
#include "ops/conv_norm.h"

namespace fsv::cpu {
namespace {

/// The part of the result that a task makes.
struct Box {
  int64_t sample, part, panel, panels, frame, frames, row, rows, col, cols;

  Box(const Conv& c, const Tiling& t, int64_t index) {
    const auto take = [&](int64_t whole, int64_t size, int64_t& first, int64_t& count) {
      const int64_t parts = ceil_div(whole, size), i = index % parts;
      index /= parts;
      first = i * size;
      count = std::min(size, whole - first);
    };
    // Tasks that share a part of the weight follow each other.
    take(c.cols(), t.cols, col, cols);
    take(c.out_height, t.rows, row, rows);
    take(c.out_frames, t.frames, frame, frames);
    int64_t one;
    take(c.batch, 1, sample, one);
    take(c.panels(), t.panels, panel, panels);
    part = index;
    col += c.col_begin;
  }
};

/// A worker at work on one box.
class Tile {
 public:
  static size_t scratch_bytes(const Conv& c, const Tiling& t) {
    const int64_t pointers = t.slots + t.step * c.l.kt + c.l.kh + 2 * c.l.kt * c.l.kh + t.rows;
    return static_cast<size_t>(ceil_div((c.direct ? 0 : t.bytes()) + pointers * 8, 64) * 64);
  }

  Tile(const Conv& c, const Tiling& tiling, const Box& box, char* scratch) : c_(c), t_(tiling), b_(box) {
    slots_ = scratch;
    held_ = reinterpret_cast<const char**>(slots_ + (c.direct ? 0 : t_.bytes()));
    taps_ = held_ + t_.slots;
    from_ = reinterpret_cast<const void**>(taps_ + t_.step * c.l.kt);
    offsets_ = reinterpret_cast<int64_t*>(from_ + c.l.kh);
    weight_offsets_ = offsets_ + c.l.kt * c.l.kh;
    noise_ = reinterpret_cast<float*>(weight_offsets_ + c.l.kt * c.l.kh);
    std::fill(held_, held_ + t_.slots, nullptr);
  }

  /// Output frames t to t + count, count at most the tiling's step; called from the first frame on.
  void run(int64_t t, int64_t count) {
    find_taps(t, count);
    look_ahead(t, count);
    for (int64_t p = b_.panel; p < b_.panel + b_.panels; p++)
      for (int64_t i = 0; i < count; i++)
        for (int64_t r = 0, n; r < b_.rows; r += n) {
          n = like_rows(r);
          row(p, t, i, r, n);
        }
  }

  /// visit(begin, end): the pixels of the result that `run` has made, run by run.
  template <class Visit>
  void each_run(int64_t t, int64_t count, const Visit& visit) const {
    for (int64_t i = t; i < t + count; i++)
      for (int64_t r = 0; r < b_.rows; r++) {
        const int64_t begin = pixel(i, r, b_.col);
        visit(begin, begin + b_.cols);
      }
  }

 private:
  /// taps_[i * kt + k]: where the frame under tap k of output frame t + i is to be read, null for zeros.
  void find_taps(int64_t t, int64_t count) {
    const int64_t n = count * c_.l.kt;
    for (int64_t j = 0; j < n; j++) taps_[j] = c_.frame(b_.sample, t + j / c_.l.kt, j % c_.l.kt);
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

  /// What the next step will copy comes into L2 while this one multiplies: a share with every product.
  void look_ahead(int64_t t, int64_t count) {
    ahead_ = nullptr;
    if (c_.direct || b_.cols < c_.cols() || c_.parts() > 1 || t + count >= b_.frame + b_.frames) return;
    const int64_t first = std::max<int64_t>(top(0), 0),
                  last = std::min(top(b_.rows - 1) + c_.l.kh, c_.height);
    const int64_t row = c_.width * c_.channels * static_cast<int64_t>(size_of(c_.dtype));
    ahead_ = c_.frame(b_.sample, t + count, c_.l.kt - 1);
    if (ahead_) ahead_ += first * row;
    ahead_bytes_ = std::max<int64_t>(last - first, 0) * row / (b_.panels * count * b_.rows);
  }

  /// The input under the tile, of one frame, into its place in scratch.
  void lay(const char* frame, char* slot) {
    const ConvLayout& l = c_.l;
    const int64_t x0 = b_.col * c_.a.stride_w - c_.a.pad_w;
    PlaneTask planes;
    RowTask& row = planes.row;
    const int64_t in_cols = (b_.cols - 1) * c_.a.stride_w + l.kw;
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
    int64_t channel = b_.part * l.in;
    row.channels = l.in;
    row.to_stride = l.pixel;
    if (l.kind == ConvKind::depthwise) {
      channel = b_.part * c_.depthwise_channels();
      row.channels = std::min(t_.channels, c_.channels - channel);
      row.to_stride = t_.channels;
    }
    planes.stride = c_.a.stride_w;
    planes.pitch = t_.pitch;
    const int64_t in_rows = l.folded ? b_.rows : (b_.rows - 1) * c_.a.stride_h + l.kh;
    for (int64_t i = 0; i < in_rows; i++, slot += t_.row_bytes) {
      bool any = false;
      for (int64_t h = 0; h < row.rows; h++) {
        const int64_t y =
            (l.folded ? (b_.row + i) * c_.a.stride_h + h : b_.row * c_.a.stride_h + i) - c_.a.pad_h;
        const bool inside = y >= 0 && y < c_.height;
        from_[h] = inside && pixels > 0 ? frame + ((y * c_.width + x0 + left) * c_.channels + channel) *
                                                      static_cast<int64_t>(size_of(c_.dtype))
                                        : nullptr;
        any = any || inside;
      }
      if (!any) {
        if (c_.strip) std::memset(slot, 0, static_cast<size_t>(t_.row_bytes));  // others leave it out
        continue;
      }
      row.to = planes.to = slot;
      if (l.kind == ConvKind::narrow)
        c_.kernels.lay_planes(planes);
      else
        c_.kernels.lay_row(row);
    }
  }

  /// Rows from `r` on that are done in one: those of a product whose windows have all of their rows.
  int64_t like_rows(int64_t r) const {
    if (c_.l.kind != ConvKind::dense) return 1;
    if (c_.l.folded || c_.strip) return b_.rows - r;
    int64_t n = 0;
    while (r + n < b_.rows && whole_down(r + n)) n++;
    return std::max<int64_t>(n, 1);
  }

  /// `count` like rows from `r` on of output frame t + i; `p` is the panel of the weight if there are panels.
  void row(int64_t p, int64_t t, int64_t i, int64_t r, int64_t count) {
    const ConvLayout& l = c_.l;
    switch (l.kind) {
      case ConvKind::dense:
        return b_.cols == 1 ? down(p, t, i, r, count) : across(p, t, i, r, count);
      case ConvKind::depthwise: {
        const int64_t first = b_.part * c_.depthwise_channels();
        DepthwiseTask task;
        task.weight_stride = ceil_div(c_.channels, 16) * 16;
        task.window = {slots_, offsets_, c_.weight + first * 4, weight_offsets_};
        task.window.segments = find_segments(i, r, l.kw * task.weight_stride * 4);
        task.window.kw = l.kw;
        task.window.stride = c_.a.stride_w;
        task.channels = t_.channels;
        task.pixels = b_.cols;
        task.cols = std::min(t_.channels, c_.channels - first);
        task.epilogue = epilogue(t + i, r, b_.col, first);
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
        task.pixels = b_.cols;
        task.epilogue = epilogue(t + i, r, b_.col, 0);
        return (c_.dtype == DType::f32 ? c_.kernels.narrow_f32 : c_.kernels.narrow_bf16)(task);
      }
    }
  }

  /// Panel `p` of `count` rows from `r` on, of output frame t + i.
  void across(int64_t p, int64_t t, int64_t i, int64_t r, int64_t count) {
    GemmTask task = product(p, t, i, r);
    task.rows = count * b_.cols;
    task.run_stride = (c_.l.folded ? 1 : c_.a.stride_h) * in_row_bytes();
    task.epilogue.run = b_.cols;
    task.epilogue.run_places = c_.out_width;
    if (ahead_) {
      task.ahead = ahead_;
      task.ahead_bytes = count * ahead_bytes_;
      ahead_ += task.ahead_bytes;
    }
    multiply(task);
  }

  /// The same where a row is one pixel.
  void down(int64_t p, int64_t t, int64_t i, int64_t r, int64_t count) {
    GemmTask task = product(p, t, i, r);
    task.rows = count;
    task.row_stride = (c_.l.folded ? 1 : c_.a.stride_h) * in_row_bytes();
    task.epilogue.out_stride *= c_.out_width;
    if (c_.a.noise) {
      for (int64_t n = 0; n < count; n++) noise_[n] = task.epilogue.row_bias[n * c_.out_width];
      task.epilogue.row_bias = noise_;
    }
    multiply(task);
  }

  /// What the pixels of output frame t + i from row `r` on have in common.
  GemmTask product(int64_t p, int64_t t, int64_t i, int64_t r) const {
    const ConvLayout& l = c_.l;
    const int64_t element = c_.operand_bytes(), pixel = c_.direct ? c_.channels : l.pixel;
    const int64_t left = b_.col * c_.a.stride_w - c_.a.pad_w;  // of the first window
    const bool cut = b_.cols == 1 && !l.folded && c_.can_cut();
    const int64_t begin = cut ? std::clamp<int64_t>(-left, 0, l.kw) : 0;
    const int64_t end = cut ? std::clamp<int64_t>(c_.width - left, begin, l.kw) : l.kw;
    GemmTask task;
    task.a = slots_ + ((c_.direct ? left * pixel + b_.part * l.in : 0) + begin * pixel) * element;
    task.row_stride = c_.a.stride_w * pixel * element;
    task.k = (end - begin) * l.pixel;
    const int64_t segment = segment_bytes(c_.dtype, l.k);
    task.segments = find_segments(i, r, segment);
    task.segment_offsets = offsets_;
    task.panels = c_.weight + (b_.part * c_.panels() + p) * l.segments * segment +
                  begin * l.pixel * kPanelCols * static_cast<int64_t>(size_of(c_.dtype));
    task.panel_offsets = weight_offsets_;
    task.cols = std::min(kPanelCols, l.out - p * kPanelCols);
    task.epilogue = epilogue(t + i, r, b_.col, b_.part * l.out + p * kPanelCols);
    return task;
  }
  void multiply(const GemmTask& task) const {
    (c_.dtype == DType::f32 ? c_.gemm.multiply_f32 : c_.gemm.multiply_bf16)(task);
  }

  int64_t in_row_bytes() const {
    return c_.direct ? c_.width * c_.channels * c_.operand_bytes() : t_.row_bytes;
  }

  /// Where the window of row `r` begins, in rows of the picture.
  int64_t top(int64_t r) const { return (b_.row + r) * c_.a.stride_h - c_.a.pad_h; }
  bool whole_down(int64_t r) const { return top(r) >= 0 && top(r) + c_.l.kh <= c_.height; }

  /// The rows of input under row `r` of the step's output frame `i` (offsets_, from slots_) and the weights
  /// they meet (weight_offsets_, `weight_bytes` a row). Rows of zeros, outside of the picture or of time, are
  /// left out.
  int64_t find_segments(int64_t i, int64_t r, int64_t weight_bytes) const {
    const ConvLayout& l = c_.l;
    const int64_t first = l.folded ? r : c_.direct ? top(r) : r * c_.a.stride_h;
    const int64_t rows = l.folded ? 1 : l.kh;
    const bool all = l.folded || c_.strip;
    const int64_t begin = all ? 0 : std::clamp<int64_t>(-top(r), 0, rows);
    const int64_t end = all ? rows : std::clamp<int64_t>(c_.height - top(r), begin, rows);
    int64_t n = 0;
    for (int64_t k = 0; k < l.kt; k++) {
      const char* frame = taps_[i * l.kt + k];
      if (!frame) continue;
      for (int64_t h = begin; h < end; h++, n++) {
        offsets_[n] = frame - slots_ + (first + h) * in_row_bytes();
        weight_offsets_[n] = (k * rows + h) * weight_bytes;
      }
    }
    return n;
  }

  /// Row `r` of the tile and column `x` in output frame `t`.
  int64_t pixel(int64_t t, int64_t r, int64_t x) const {
    return ((b_.sample * c_.out_frames + t) * c_.out_height + b_.row + r) * c_.out_width + x;
  }

  /// From output channel `channel` on, of row `r` of the tile and column `x` in output frame `t`.
  Epilogue epilogue(int64_t t, int64_t r, int64_t x, int64_t channel) const {
    const int64_t element = pixel(t, r, x) * c_.out_channels + channel;
    Epilogue e;
    if (c_.a.bias) e.bias = c_.a.bias.as<const float>() + channel;
    if (c_.a.noise) e.row_bias = c_.a.noise.as<const float>() + (b_.row + r) * c_.out_width + x;
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
  const Box b_;
  char* slots_;                         ///< t_.slots frames of input
  const char** held_;                   ///< the frame in each of them, null when free
  const char** taps_;                   ///< [step][kt]
  const void** from_;                   ///< [kh], for RowTask
  int64_t *offsets_, *weight_offsets_;  ///< [kt * kh]
  float* noise_;                        ///< [rows]
  const char* ahead_ = nullptr;         ///< what the next step will copy and nobody has called yet
  int64_t ahead_bytes_ = 0;             ///< with each row of the tile
};

/// A convolution as its workers see it: the windows that are read from x, or all of them, and, if there are
/// others, the strips to the left and right.
class Work {
 public:
  Work(const Conv& conv, int threads) : conv_(conv), tiling_(conv, threads) {
    const int64_t ends[][2] = {{0, conv.col_begin}, {conv.col_end, conv.out_width}};
    for (const auto& [begin, end] : ends) {
      if (begin == end) continue;
      const Conv strip = conv.cut(begin, end);
      strips_.emplace_back(strip, Tiling(strip, tiling_));
    }
  }

  int64_t tasks() const { return tiling_.tasks(conv_); }
  /// Whether a task makes all channels of its pixels.
  bool completes_pixels() const { return conv_.parts() == 1 && tiling_.panels == conv_.panels(); }
  size_t scratch_bytes() const {
    size_t bytes = Tile::scratch_bytes(conv_, tiling_);
    for (const auto& [strip, tiling] : strips_) bytes += Tile::scratch_bytes(strip, tiling);
    return bytes;
  }

  /// A strip is done together with the box beside it, whose input and output are in cache then.
  /// finish(begin, end) is told of the pixels that are complete, as far as the task has all of their
  /// channels.
  template <class Finish>
  void run(int64_t task, char* scratch, const Finish& finish) const {
    const Box box(conv_, tiling_, task);
    std::vector<Tile> tiles;
    const auto add = [&](const Conv& c, const Tiling& t, const Box& part) {
      tiles.emplace_back(c, t, part, scratch);
      scratch += Tile::scratch_bytes(c, t);
    };
    add(conv_, tiling_, box);
    for (const auto& [strip, tiling] : strips_) {
      if (strip.col_end != box.col && strip.col_begin != box.col + box.cols) continue;
      Box beside = box;
      beside.col = strip.col_begin;
      beside.cols = strip.cols();
      add(strip, tiling, beside);
    }
    for (int64_t t = box.frame; t < box.frame + box.frames; t += tiling_.step) {
      const int64_t count = std::min(tiling_.step, box.frame + box.frames - t);
      for (Tile& tile : tiles) tile.run(t, count);
      if (completes_pixels())
        for (const Tile& tile : tiles) tile.each_run(t, count, finish);
    }
  }

 private:
  Conv conv_;
  Tiling tiling_;
  std::vector<std::pair<Conv, Tiling>> strips_;
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
  const Conv3dArgs sums = args.norm ? without_norm(args) : args;
  const NormTask norm = norm_task(norm_of(args));
  const auto finish = [&](int64_t begin, int64_t end) {
    if (args.norm) kernels_.rows->norm(norm, begin, end);
  };
  const Work work(Conv(sums, kernels_, layout, packed), pool_.size());
  const size_t bytes = work.scratch_bytes();
  for (int w = 0; w < pool_.size(); w++) pool_.scratch(w, bytes);
  const int64_t multiplied = args.weight.shape.elements(1, 5);
  const int64_t grain = items_a_range(work.tasks(), 2 * args.out.elements() * multiplied);
  pool_.parallel_for(work.tasks(), grain, [&](int64_t begin, int64_t end, int worker) {
    char* scratch = static_cast<char*>(pool_.scratch(worker, bytes));
    for (int64_t i = begin; i < end; i++) work.run(i, scratch, finish);
  });
  if (args.norm && !work.completes_pixels()) pixel_norm(norm_of(args));
}

}  // namespace fsv::cpu
