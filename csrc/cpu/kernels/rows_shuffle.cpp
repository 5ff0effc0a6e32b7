// The 3D pixel shuffles with their averaging and duplicating shortcuts. Both go through one pixel of `full`
// channels in f32 in the first-level cache: channel c of x and place p in the block of `places` = time *
// space^2 pixels are full channel c * places + p. unshuffle zips `places` pixels into it and averages
// neighbours; shuffle fills it from one pixel by repeating channels and unzips it into pixels. Counts of 1,
// 2, 4 and 8 are done on vectors, others one by one.
#include <type_traits>

#include "cpu/kernels/rows.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
namespace {

/// body(std::integral_constant) for the counts that have vector code, or body(count).
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

template <class Count>
constexpr bool kVectors = !std::is_same_v<Count, int64_t>;

float widened(float v) { return v; }
float widened(uint16_t v) { return __builtin_bit_cast(float, static_cast<uint32_t>(v) << 16); }

/// a0 b0 a1 b1 ...: the first vector of it, and the second.
FSV_INLINE inline void zip(Floats a, Floats b, Floats& first, Floats& second) {
  Ints low, high;
  for (int i = 0; i < kLanes; i++) {
    low[i] = i / 2 + i % 2 * kLanes;
    high[i] = low[i] + kLanes / 2;
  }
  first = __builtin_shuffle(a, b, low);
  second = __builtin_shuffle(a, b, high);
}

/// Inverse of zip.
FSV_INLINE inline void unzip(Floats first, Floats second, Floats& a, Floats& b) {
  Ints even;
  for (int i = 0; i < kLanes; i++) even[i] = 2 * i;
  a = __builtin_shuffle(first, second, even);
  b = __builtin_shuffle(first, second, even + 1);
}

/// Element i of vector s goes to element i * kCount + s of all vectors together.
template <int kCount>
FSV_INLINE inline void interleave(Floats* v) {
  if constexpr (kCount > 1) {
    Floats even[kCount / 2], odd[kCount / 2];
    for (int i = 0; i < kCount / 2; i++) even[i] = v[2 * i], odd[i] = v[2 * i + 1];
    interleave<kCount / 2>(even);
    interleave<kCount / 2>(odd);
    for (int i = 0; i < kCount / 2; i++) zip(even[i], odd[i], v[2 * i], v[2 * i + 1]);
  }
}

/// Inverse of interleave.
template <int kCount>
FSV_INLINE inline void deinterleave(Floats* v) {
  if constexpr (kCount > 1) {
    Floats even[kCount / 2], odd[kCount / 2];
    for (int i = 0; i < kCount / 2; i++) unzip(v[2 * i], v[2 * i + 1], even[i], odd[i]);
    deinterleave<kCount / 2>(even);
    deinterleave<kCount / 2>(odd);
    for (int i = 0; i < kCount / 2; i++) v[2 * i] = even[i], v[2 * i + 1] = odd[i];
  }
}

/// A grid of pixels [B, frames, height, width].
struct Grid {
  int64_t frames, height, width;
};

/// The blocks of time x space x space pixels of the fine grid that pixels of the coarse one become, in their
/// order; the fine grid lacks `edge` frames in front. No divisions from block to block: they would take
/// longer than moving a few channels does.
class Blocks {
 public:
  Blocks(const ShuffleTask& task, const Grid& coarse, const Grid& fine, int64_t index)
      : task_(task), coarse_(coarse), fine_(fine) {
    w_ = index % coarse.width, index /= coarse.width;
    h_ = index % coarse.height, index /= coarse.height;
    t_ = index % coarse.frames, b_ = index / coarse.frames;
    int64_t* offset = task.offsets;
    for (int64_t t = 0; t < task.time; t++)
      for (int64_t h = 0; h < task.space; h++)
        for (int64_t w = 0; w < task.space; w++) *offset++ = (t * fine.height + h) * fine.width + w;
    aim();
  }

  void next() {
    if (++w_ == coarse_.width) {
      w_ = 0;
      if (++h_ == coarse_.height) {
        h_ = 0;
        if (++t_ == coarse_.frames) t_ = 0, b_++;
      }
    }
    aim();
  }

  /// Places whose frames the fine grid lacks; they come first.
  int64_t missing() const { return missing_; }
  /// Index of a place's pixel in the fine grid; of the first frame's where its own is missing.
  int64_t pixel(int64_t place) const {
    if (place >= missing_) return first_ + task_.offsets[place];
    return first_ + task_.offsets[missing_ + place % (task_.space * task_.space)];
  }

 private:
  const ShuffleTask& task_;
  const Grid coarse_, fine_;
  int64_t b_, t_, h_, w_;
  int64_t first_, missing_;

  void aim() {
    const int64_t frame = t_ * task_.time - task_.edge;
    first_ = ((b_ * fine_.frames + frame) * fine_.height + h_ * task_.space) * fine_.width + w_ * task_.space;
    missing_ = frame < 0 ? -frame * task_.space * task_.space : 0;
  }
};

/// full[c * places + p] = x of place p, channel c.
template <class T, class Places>
void gather(const T* x, int64_t channels, const Blocks& block, Places places, float* full) {
  if constexpr (kVectors<Places>) {
    constexpr int kPlaces = Places::value;
    const T* rows[kPlaces];
    for (int p = 0; p < kPlaces; p++) rows[p] = x + block.pixel(p) * channels;
    each_vector(channels, [&](int64_t c, int64_t n) FSV_INLINE {
      Floats v[kPlaces];
      for (int p = 0; p < kPlaces; p++) v[p] = load_some(rows[p] + c, n);
      interleave<kPlaces>(v);
      for (int p = 0; p < kPlaces; p++) store(full + c * kPlaces + p * kLanes, v[p]);
    });
  } else {
    for (int64_t p = 0; p < places; p++) {
      const T* row = x + block.pixel(p) * channels;
      for (int64_t c = 0; c < channels; c++) full[c * places + p] = widened(row[c]);
    }
  }
}

/// mean[k] (+)= the mean of full[k * count .. (k + 1) * count).
template <class Count>
void average(const float* full, int64_t channels, Count count, bool first, float* mean) {
  if constexpr (kVectors<Count>) {
    constexpr int kCount = Count::value;
    for (int64_t k = 0; k < channels; k += kLanes) {
      Floats v[kCount];
      for (int i = 0; i < kCount; i++) v[i] = load(full + k * kCount + i * kLanes);
      deinterleave<kCount>(v);
      for (int i = 1; i < kCount; i++) v[0] += v[i];
      v[0] *= 1.0f / kCount;
      store(mean + k, first ? v[0] : load(mean + k) + v[0]);
    }
  } else {
    for (int64_t k = 0; k < channels; k++) {
      float sum = 0;
      for (int64_t i = 0; i < count; i++) sum += full[k * count + i];
      sum /= static_cast<float>(count);
      mean[k] = first ? sum : mean[k] + sum;
    }
  }
}

/// full[c * count + i] (+)= x[c] for every i < count.
template <class T, class Count>
void repeat(const T* x, int64_t channels, Count count, bool first, float* full) {
  if constexpr (kVectors<Count>) {
    constexpr int kCount = Count::value;
    each_vector(channels, [&](int64_t c, int64_t n) FSV_INLINE {
      const Floats v = load_some(x + c, n);
      for (int part = 0; part < kCount; part++) {
        Ints from;
        for (int i = 0; i < kLanes; i++) from[i] = (part * kLanes + i) / kCount;
        const Floats repeated = __builtin_shuffle(v, from);
        float* to = full + c * kCount + part * kLanes;
        store(to, first ? repeated : load(to) + repeated);
      }
    });
  } else {
    for (int64_t c = 0; c < channels; c++)
      for (int64_t i = 0; i < count; i++) {
        float& to = full[c * count + i];
        to = first ? widened(x[c]) : to + widened(x[c]);
      }
  }
}

/// Channel k of place p = full[k * places + p], where the place's frame is not before the first.
template <class T, class Places>
void scatter(const float* full, T* out, int64_t channels, const Blocks& block, Places places, float* row) {
  if constexpr (kVectors<Places>) {
    constexpr int kPlaces = Places::value;
    T* rows[kPlaces];
    for (int p = 0; p < kPlaces; p++)
      rows[p] = p < block.missing() ? nullptr : out + block.pixel(p) * channels;
    each_vector(channels, [&](int64_t k, int64_t n) FSV_INLINE {
      Floats v[kPlaces];
      for (int p = 0; p < kPlaces; p++) v[p] = load(full + k * kPlaces + p * kLanes);
      deinterleave<kPlaces>(v);
      for (int p = 0; p < kPlaces; p++)
        if (rows[p]) store_some(rows[p] + k, v[p], n);
    });
  } else {
    for (int64_t p = block.missing(); p < places; p++) {
      for (int64_t k = 0; k < channels; k++) row[k] = full[k * places + p];
      T* to = out + block.pixel(p) * channels;
      each_vector(channels,
                  [&](int64_t k, int64_t n) FSV_INLINE { store_some(to + k, load_some(row + k, n), n); });
    }
  }
}

template <class T>
void unshuffle_pixels(const ShuffleTask& task, int64_t begin, int64_t end) {
  const int64_t space = task.space, places = task.time * space * space;
  const Grid fine = {task.frames, task.height, task.width};
  const Grid coarse = {(task.frames + task.edge) / task.time, task.height / space, task.width / space};
  float *full = task.full, *mean = task.row;
  Blocks block(task, coarse, fine, begin);
  for (int64_t index = begin; index < end; index++, block.next()) {
    for (const ShuffleInput& input : task.inputs) {
      if (!input.data) continue;
      const T* x = static_cast<const T*>(input.data);
      with_count(places, [&](auto count) { gather(x, input.channels, block, count, full); });
      with_count(input.channels * places / task.channels,
                 [&](auto count) { average(full, task.channels, count, &input == task.inputs, mean); });
    }
    T* out = static_cast<T*>(task.out) + index * task.channels;
    each_vector(task.channels,
                [&](int64_t k, int64_t n) FSV_INLINE { store_some(out + k, load_some(mean + k, n), n); });
  }
}

template <class T>
void shuffle_pixels(const ShuffleTask& task, int64_t begin, int64_t end) {
  const int64_t space = task.space, places = task.time * space * space;
  const Grid coarse = {task.frames, task.height, task.width};
  const Grid fine = {task.frames * task.time - task.edge, task.height * space, task.width * space};
  Blocks block(task, coarse, fine, begin);
  for (int64_t index = begin; index < end; index++, block.next()) {
    for (const ShuffleInput& input : task.inputs) {
      if (!input.data) continue;
      const T* x = static_cast<const T*>(input.data) + index * input.channels;
      with_count(task.channels * places / input.channels,
                 [&](auto count) { repeat(x, input.channels, count, &input == task.inputs, task.full); });
    }
    with_count(places, [&](auto count) {
      scatter(task.full, static_cast<T*>(task.out), task.channels, block, count, task.row);
    });
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
