// The 3D pixel shuffles with their averaging and duplicating shortcuts. Both go through one pixel of `full`
// channels in f32 in the first-level cache: channel c of x and place p in the block of `places` = time *
// space^2 pixels are full channel c * places + p. unshuffle fills it from `places` pixels and averages,
// shuffle fills it from one pixel by repeating and hands its channels out.
#include <type_traits>

#include "cpu/kernels/rows.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
namespace {

/// body(std::integral_constant) for the counts that networks have, so that its loops are unrolled, or
/// body(count).
template <class Body>
void with_count(int64_t count, const Body& body) {
  switch (count) {
    case 1:
      return body(std::integral_constant<int64_t, 1>{});
    case 2:
      return body(std::integral_constant<int64_t, 2>{});
    case 4:
      return body(std::integral_constant<int64_t, 4>{});
    case 8:
      return body(std::integral_constant<int64_t, 8>{});
    default:
      return body(count);
  }
}

float widened(float v) { return v; }
float widened(uint16_t v) { return __builtin_bit_cast(float, static_cast<uint32_t>(v) << 16); }

/// Where pixel (t, h, w) of sample b is, counted in pixels.
struct Grid {
  int64_t frames, height, width;
  int64_t index(int64_t b, int64_t t, int64_t h, int64_t w) const {
    return ((b * frames + t) * height + h) * width + w;
  }
};

struct Pixel {
  int64_t b, t, h, w;
};

/// Inverse of Grid::index.
Pixel pixel_of(const Grid& grid, int64_t index) {
  Pixel p;
  p.w = index % grid.width;
  p.h = index / grid.width % grid.height;
  p.t = index / grid.width / grid.height % grid.frames;
  p.b = index / grid.width / grid.height / grid.frames;
  return p;
}

template <class T>
void unshuffle_pixels(const ShuffleTask& task, int64_t begin, int64_t end) {
  const int64_t space = task.space, places = task.time * space * space;
  const Grid from = {task.frames, task.height, task.width};
  const Grid to = {(task.frames + task.edge) / task.time, task.height / space, task.width / space};
  float* mean = task.full + task.full_channels;
  for (int64_t index = begin; index < end; index++) {
    const Pixel p = pixel_of(to, index);
    for (int64_t k = 0; k < task.channels; k++) mean[k] = 0;
    for (const ShuffleInput& input : task.inputs) {
      if (!input.data) continue;
      const int64_t channels = input.channels;
      for (int64_t place = 0; place < places; place++) {
        int64_t t = p.t * task.time + place / (space * space) - task.edge;
        if (t < 0) t = 0;  // one of the copies of the first frame
        const int64_t h = p.h * space + place / space % space, w = p.w * space + place % space;
        const T* x = static_cast<const T*>(input.data) + from.index(p.b, t, h, w) * channels;
        float* full = task.full + place;
        with_count(places, [&](auto stride) {
          for (int64_t c = 0; c < channels; c++) full[c * stride] = widened(x[c]);
        });
      }
      const int64_t averaged = channels * places / task.channels;
      const float share = 1.0f / static_cast<float>(averaged);
      with_count(averaged, [&](auto count) {
        for (int64_t k = 0; k < task.channels; k++) {
          const float* full = task.full + k * count;
          float sum = full[0];
          for (int64_t i = 1; i < count; i++) sum += full[i];
          mean[k] = __builtin_fmaf(sum, share, mean[k]);
        }
      });
    }
    T* out = static_cast<T*>(task.out) + index * task.channels;
    each_vector(task.channels,
                [&](int64_t k, int64_t n) FSV_INLINE { store_some(out + k, load_some(mean + k, n), n); });
  }
}

template <class T>
void shuffle_pixels(const ShuffleTask& task, int64_t begin, int64_t end) {
  const int64_t space = task.space, places = task.time * space * space;
  const Grid from = {task.frames, task.height, task.width};
  const Grid to = {task.frames * task.time - task.edge, task.height * space, task.width * space};
  float* place_row = task.full + task.full_channels;
  for (int64_t index = begin; index < end; index++) {
    const Pixel p = pixel_of(from, index);
    for (const ShuffleInput& input : task.inputs) {
      if (!input.data) continue;
      const T* x = static_cast<const T*>(input.data) + index * input.channels;
      const bool first = &input == task.inputs;
      with_count(task.full_channels / input.channels, [&](auto repeats) {
        for (int64_t c = 0; c < input.channels; c++) {
          const float v = widened(x[c]);
          float* full = task.full + c * repeats;
          for (int64_t i = 0; i < repeats; i++) full[i] = first ? v : full[i] + v;
        }
      });
    }
    for (int64_t place = 0; place < places; place++) {
      const int64_t t = p.t * task.time + place / (space * space) - task.edge;
      if (t < 0) continue;  // a dropped frame
      const int64_t h = p.h * space + place / space % space, w = p.w * space + place % space;
      const float* full = task.full + place;
      with_count(places, [&](auto stride) {
        for (int64_t k = 0; k < task.channels; k++) place_row[k] = full[k * stride];
      });
      T* out = static_cast<T*>(task.out) + to.index(p.b, t, h, w) * task.channels;
      each_vector(task.channels, [&](int64_t k, int64_t n)
                                     FSV_INLINE { store_some(out + k, load_some(place_row + k, n), n); });
    }
  }
}

}  // namespace

void unshuffle(const ShuffleTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) { unshuffle_pixels<decltype(stored)>(task, begin, end); });
}

void shuffle(const ShuffleTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) { shuffle_pixels<decltype(stored)>(task, begin, end); });
}

}  // namespace fsv::cpu::FSV_ISA
