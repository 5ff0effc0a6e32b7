// The table of convolution kernels of one instruction set, and the two that lay rows of the input out in
// scratch; the others stand in conv_*.cpp.
#include "cpu/kernels/conv.h"

#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {

void depthwise(const DepthwiseTask& task);
void narrow_f32(const NarrowTask& task);
void narrow_bf16(const NarrowTask& task);
void linear_attention(const LinearAttentionTask& task);

namespace {

template <class T>
void zero(T* to, int64_t n) {
  std::memset(to, 0, static_cast<size_t>(n) * sizeof(T));
}

/// memcpy of a few KB, without the start-up of the machine's string instruction.
void copy(const void* from, int64_t bytes, void* to) {
  constexpr int64_t kLine = 64;
  const char* source = static_cast<const char*>(from);
  char* target = static_cast<char*>(to);
  for (; bytes >= kLine; bytes -= kLine, source += kLine, target += kLine) {
    struct {
      char bytes[kLine];
    } line;
    std::memcpy(&line, source, kLine);
    std::memcpy(target, &line, kLine);
  }
  std::memcpy(target, source, static_cast<size_t>(bytes));
}

template <class To, class From>
void convert(const From* from, int64_t n, To* to) {
  if constexpr (sizeof(To) == sizeof(From))
    copy(from, n * static_cast<int64_t>(sizeof(To)), to);
  else
    each_vector(n, [&](int64_t i, int64_t lanes) { store_some(to + i, load_some(from + i, lanes), lanes); });
}

/// One element at a time, which is quickest for the three channels of a picture.
template <class To, class From>
void convert_few(const From* from, int64_t n, To* to) {
  for (int64_t i = 0; i < n; i++) {
    if constexpr (sizeof(To) == sizeof(From))
      to[i] = from[i];
    else
      to[i] = to_float(Bf16{from[i]});
  }
}

/// Pixels of at most four channels, H rows of a window side by side. Always four elements are copied at once:
/// the surplus falls where the next copy goes. The last few pixels, where it would not, are left; returns how
/// many are done.
template <int H, class T>
int64_t fold_fours(const RowTask& task, T* to) {
  struct Four {
    T at[4];
  };
  const T nothing[4] = {};
  const T* from[H];
  int64_t step[H];
  for (int h = 0; h < H; h++) {
    from[h] = task.from[h] ? static_cast<const T*>(task.from[h]) : nothing;
    step[h] = task.from[h] ? task.pixel_stride : 0;
  }
  const int64_t done = task.pixels > 4 ? task.pixels - 4 : 0;
  for (int64_t p = 0; p < done; p++, to += task.to_stride)
    for (int h = 0; h < H; h++) {
      Four four;
      std::memcpy(&four, from[h], sizeof four);
      std::memcpy(to + h * task.channels, &four, sizeof four);
      from[h] += step[h];
    }
  return done;
}

template <class To, class From>
void lay_row_as(const RowTask& task) {
  To* to = static_cast<To*>(task.to);
  const int64_t used = task.rows * task.channels, rest = task.to_stride - used;
  zero(to, task.left * task.to_stride);
  to += task.left * task.to_stride;
  if (task.rows == 1 && rest == 0 && task.pixel_stride == task.channels) {
    if (task.pixels > 0) convert(static_cast<const From*>(task.from[0]), task.pixels * task.channels, to);
  } else {
    int64_t p = 0;
    if constexpr (sizeof(To) == sizeof(From))
      if (task.rows == 3 && task.channels <= 4 && rest == 0) p = fold_fours<3>(task, to);
    for (; p < task.pixels; p++) {
      To* pixel = to + p * task.to_stride;
      for (int64_t h = 0; h < task.rows; h++, pixel += task.channels) {
        if (!task.from[h]) {
          zero(pixel, task.channels);
          continue;
        }
        const From* from = static_cast<const From*>(task.from[h]) + p * task.pixel_stride;
        if (task.channels < kLanes)
          convert_few(from, task.channels, pixel);
        else
          convert(from, task.channels, pixel);
      }
      zero(pixel, rest);
    }
  }
  zero(to + task.pixels * task.to_stride, task.right * task.to_stride);
}

void lay_row(const RowTask& task) {
  if (task.from_dtype == DType::f32)
    lay_row_as<float, float>(task);
  else if (task.to_dtype == DType::bf16)
    lay_row_as<uint16_t, uint16_t>(task);
  else
    lay_row_as<float, uint16_t>(task);
}

/// What becomes one number of a plane: a channel of f32, two of bf16, or a bf16 channel as f32. `last` reads
/// the unit of which only the first channel is there.
struct Floats32 {
  using Element = float;
  static constexpr int kChannels = 1;
  static uint32_t whole(const float* from) { return std::bit_cast<uint32_t>(*from); }
};
struct Pairs {
  using Element = uint16_t;
  static constexpr int kChannels = 2;
  static uint32_t whole(const uint16_t* from) { return from[0] | uint32_t{from[1]} << 16; }
  static uint32_t last(const uint16_t* from) { return from[0]; }
};
struct Widened {
  using Element = uint16_t;
  static constexpr int kChannels = 1;
  static uint32_t whole(const uint16_t* from) { return uint32_t{*from} << 16; }
};

/// One plane: `read` gives its number from the pixel's first element.
template <class Element, class Read>
void lay_plane(const PlaneTask& task, uint32_t* plane, const Element* from, const Read& read) {
  const RowTask& row = task.row;
  const int64_t total = row.left + row.pixels + row.right;
  const auto place = [&](int64_t pixel) -> uint32_t& {
    return plane[pixel % task.stride * task.pitch + pixel / task.stride];
  };
  for (int64_t p = 0; p < row.left; p++) place(p) = 0;
  if (task.stride == 1)
    for (int64_t p = 0; p < row.pixels; p++) plane[row.left + p] = read(from + p * row.pixel_stride);
  else
    for (int64_t p = 0; p < row.pixels; p++) place(row.left + p) = read(from + p * row.pixel_stride);
  for (int64_t p = total - row.right; p < total; p++) place(p) = 0;
}

template <class Unit>
void lay_planes_as(const PlaneTask& task) {
  using Element = typename Unit::Element;
  const int64_t channels = task.row.channels, whole = channels / Unit::kChannels;
  const auto* from = task.row.pixels > 0 ? static_cast<const Element*>(task.row.from[0]) : nullptr;
  uint32_t* plane = static_cast<uint32_t*>(task.to);
  for (int64_t n = 0; n < whole; n++, plane += task.stride * task.pitch, from += Unit::kChannels)
    lay_plane(task, plane, from, Unit::whole);
  if constexpr (Unit::kChannels == 2) {
    if (channels % 2) lay_plane(task, plane, from, Unit::last);
  } else if (sizeof(Element) == 2 && channels % 2) {
    lay_plane(task, plane, from, [](const Element*) { return 0u; });
  }
}

void lay_planes(const PlaneTask& task) {
  if (task.row.from_dtype == DType::f32)
    lay_planes_as<Floats32>(task);
  else if (task.row.to_dtype == DType::bf16)
    lay_planes_as<Pairs>(task);
  else
    lay_planes_as<Widened>(task);
}

}  // namespace

extern const ConvKernels conv_kernels;
const ConvKernels conv_kernels = {lay_row, lay_planes, depthwise, narrow_f32, narrow_bf16, linear_attention};

}  // namespace fsv::cpu::FSV_ISA
