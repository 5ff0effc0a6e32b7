// Norms over a row of channels, and over the groups of channels of a whole sample. Mean first, then squared
// deviations from it while the row is still in the first-level cache: E[x^2] - E[x]^2 would cancel.
#include "cpu/kernels/rows.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
namespace {

template <class T>
float mean_of(const T* x, int64_t channels) {
  return sum_vectors(channels, [&](int64_t c, int64_t n) FSV_INLINE { return load_some(x + c, n); }) /
         static_cast<float>(channels);
}

/// Mean of (x - mean)^2.
template <class T>
float mean_square(const T* x, int64_t channels, float mean) {
  return sum_vectors(channels,
                     [&](int64_t c, int64_t n) FSV_INLINE {
                       const Floats d = first_lanes(load_some(x + c, n) - mean, n);
                       return d * d;
                     }) /
         static_cast<float>(channels);
}

float reciprocal_root(float value) { return 1.0f / __builtin_sqrtf(value); }

/// `vector` at the sample that `row` belongs to, or null.
const float* of_sample(const float* vector, int64_t row, int64_t rows_a_sample, int64_t channels) {
  return vector ? vector + row / rows_a_sample * channels : nullptr;
}

template <class X, class Y, class Act>
void norm_rows(const NormTask& task, int64_t begin, int64_t end, const Act& act) {
  const int64_t channels = task.channels;
  const float *weight = task.weight, *bias = task.bias;
  for (int64_t row = begin; row < end; row++) {
    const X* x = static_cast<const X*>(task.x) + row * channels;
    const X* residual = task.residual ? static_cast<const X*>(task.residual) + row * channels : nullptr;
    Y* out = static_cast<Y*>(task.out) + row * channels;
    const float* scale = of_sample(task.scale, row, task.rows_a_sample, channels);
    const float* shift = of_sample(task.shift, row, task.rows_a_sample, channels);
    const float mean = task.rms ? 0.0f : mean_of(x, channels);
    const float factor = reciprocal_root(mean_square(x, channels, mean) + task.eps);
    each_vector(channels, [&](int64_t c, int64_t n) FSV_INLINE {
      Floats v = (load_some(x + c, n) - mean) * factor;
      if (weight) v *= load_some(weight + c, n);
      if (bias) v += load_some(bias + c, n);
      if (scale) v *= 1.0f + load_some(scale + c, n);
      if (shift) v += load_some(shift + c, n);
      if (residual) v += load_some(residual + c, n);
      store_some(out + c, act(v), n);
    });
  }
}

/// The vector's first `kChannels` numbers again and again; `otherwise` where there are none.
template <int kChannels>
Floats repeated(const float* vector, float otherwise) {
  Floats v = set(otherwise);
  for (int i = 0; vector && i < kLanes; i++) v[i] = vector[i % kChannels];
  return v;
}

/// norm_rows of rows that are a part of a vector, as many at once as it holds: the same sums in the same
/// order, so that a row has the same bits wherever it lies. Only what pixel_norm asks for.
template <int kChannels, class X, class Y, class Act>
void norm_short_rows(const NormTask& task, int64_t begin, int64_t end, const Act& act) {
  static_assert(kChannels < kLanes && kLanes % kChannels == 0);
  const X *x = static_cast<const X*>(task.x), *residual = static_cast<const X*>(task.residual);
  Y* out = static_cast<Y*>(task.out);
  const Floats weight = repeated<kChannels>(task.weight, 1), bias = repeated<kChannels>(task.bias, 0);
  Ints partner[3];
  for (int step = kChannels / 2, i = 0; step > 0; step /= 2, i++)
    for (int lane = 0; lane < kLanes; lane++) partner[i][lane] = lane ^ step;
  const int64_t size = end * kChannels;
  for (int64_t i = begin * kChannels; i < size; i += kLanes) {
    const int64_t n = size - i < kLanes ? size - i : kLanes;
    Floats v = load_some(x + i, n);
    Floats squares = v * v;
    for (int step = kChannels / 2, j = 0; step > 0; step /= 2, j++)
      squares += __builtin_shuffle(squares, partner[j]);
    Floats factor = squares / static_cast<float>(kChannels) + task.eps;
    for (int lane = 0; lane < kLanes; lane++) factor[lane] = __builtin_sqrtf(factor[lane]);
    v = v * (1.0f / factor) * weight + bias;
    if (residual) v += load_some(residual + i, n);
    store_some(out + i, act(v), n);
  }
}

/// (a cos - b sin, a sin + b cos) of the pairs (a, b) in v.
Floats rotated(Floats v, Floats cos_sin) {
  Ints even, odd, swapped;
  Floats sign;
  for (int i = 0; i < kLanes; i++) {
    even[i] = i & ~1;
    odd[i] = i | 1;
    swapped[i] = i ^ 1;
    sign[i] = i & 1 ? 1.0f : -1.0f;
  }
  const Floats cosine = __builtin_shuffle(cos_sin, even), sine = __builtin_shuffle(cos_sin, odd) * sign;
  return fma(v, cosine, __builtin_shuffle(v, swapped) * sine);
}

template <class T>
void rope_rows(const RopeTask& task, int64_t begin, int64_t end) {
  const int64_t channels = task.heads * task.head_dim;
  for (int64_t row = begin; row < end; row++) {
    const T* x = static_cast<const T*>(task.x) + row * channels;
    T* out = static_cast<T*>(task.out) + row * channels;
    const float* rotations = task.rotations ? task.rotations + row % task.tokens * task.head_dim : nullptr;
    const float factor = task.weight ? reciprocal_root(mean_square(x, channels, 0) + task.eps) : 1.0f;
    for (int64_t head = 0; head < channels; head += task.head_dim)
      each_vector(task.head_dim, [&](int64_t d, int64_t n) FSV_INLINE {
        Floats v = load_some(x + head + d, n);
        if (task.weight) v = v * factor * load_some(task.weight + head + d, n);
        if (rotations) v = rotated(v, load_some(rotations + d, n));
        store_some(out + head + d, v, n);
      });
  }
}

template <class T>
void group_pieces(const GroupStatsTask& task, int64_t begin, int64_t end) {
  const int64_t channels = task.channels, width = channels / task.groups;
  float *sums = task.sums, *means = task.sums + channels;
  for (int64_t piece = begin; piece < end; piece++) {
    const int64_t sample = piece / task.pieces_a_sample,
                  first = piece % task.pieces_a_sample * task.rows_a_piece;
    const int64_t left = task.rows_a_sample - first;
    const int64_t rows = left < task.rows_a_piece ? left : task.rows_a_piece;
    const T* x = static_cast<const T*>(task.x) + (sample * task.rows_a_sample + first) * channels;
    double* stats = task.stats + piece * task.groups * 2;

    const auto accumulate = [&](const auto& value) FSV_INLINE {
      for (int64_t c = 0; c < channels; c++) sums[c] = 0;
      for (int64_t row = 0; row < rows; row++)
        each_vector(channels, [&](int64_t c, int64_t n) FSV_INLINE {
          store_some(sums + c, load_some(sums + c, n) + value(load_some(x + row * channels + c, n), c, n), n);
        });
    };
    const auto group_sum = [&](int64_t group) {
      double total = 0;
      for (int64_t c = group * width; c < (group + 1) * width; c++) total += static_cast<double>(sums[c]);
      return total;
    };

    accumulate([](Floats v, int64_t, int64_t) FSV_INLINE { return v; });
    for (int64_t g = 0; g < task.groups; g++) {
      const double mean = group_sum(g) / static_cast<double>(rows * width);
      stats[2 * g] = mean;
      for (int64_t c = g * width; c < (g + 1) * width; c++) means[c] = static_cast<float>(mean);
    }
    accumulate([&](Floats v, int64_t c, int64_t n) FSV_INLINE {
      const Floats d = v - load_some(means + c, n);
      return d * d;
    });
    for (int64_t g = 0; g < task.groups; g++) stats[2 * g + 1] = group_sum(g);
  }
}

template <class X, class Y, class Act>
void affine_rows(const AffineTask& task, int64_t begin, int64_t end, const Act& act) {
  const int64_t channels = task.channels;
  for (int64_t row = begin; row < end; row++) {
    const X* x = static_cast<const X*>(task.x) + row * channels;
    const X* residual = task.residual ? static_cast<const X*>(task.residual) + row * channels : nullptr;
    Y* out = static_cast<Y*>(task.out) + row * channels;
    const float* mean = of_sample(task.mean, row, task.rows_a_sample, channels);
    const float* scale = of_sample(task.scale, row, task.rows_a_sample, channels);
    each_vector(channels, [&](int64_t c, int64_t n) FSV_INLINE {
      Floats v = load_some(x + c, n);
      if (mean) v -= load_some(mean + c, n);
      const Floats add = task.shift ? load_some(task.shift + c, n) : Floats{};
      v = fma(v, load_some(scale + c, n), add);
      if (residual) v += load_some(residual + c, n);
      store_some(out + c, act(v), n);
    });
  }
}

}  // namespace

void norm(const NormTask& task, int64_t begin, int64_t end) {
  with_activation(task.activation, [&](auto act) {
    with_stored(task.x_dtype, [&](auto x) {
      with_stored(task.out_dtype, [&](auto y) {
        using X = decltype(x);
        using Y = decltype(y);
        const bool plain = task.rms && !task.scale && !task.shift;
        if constexpr (kLanes > 8)
          if (plain && task.channels == 8) return norm_short_rows<8, X, Y>(task, begin, end, act);
        if constexpr (kLanes > 4)
          if (plain && task.channels == 4) return norm_short_rows<4, X, Y>(task, begin, end, act);
        norm_rows<X, Y>(task, begin, end, act);
      });
    });
  });
}

void qk_norm_rope(const RopeTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto x) { rope_rows<decltype(x)>(task, begin, end); });
}

void group_stats(const GroupStatsTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto x) { group_pieces<decltype(x)>(task, begin, end); });
}

void affine(const AffineTask& task, int64_t begin, int64_t end) {
  with_activation(task.activation, [&](auto act) {
    with_stored(task.x_dtype, [&](auto x) {
      with_stored(task.out_dtype,
                  [&](auto y) { affine_rows<decltype(x), decltype(y)>(task, begin, end, act); });
    });
  });
}

}  // namespace fsv::cpu::FSV_ISA
