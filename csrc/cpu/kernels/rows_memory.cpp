// Layer memory (paper eq. 6-8): for every token a softmax over all earlier states, their weighted sum, and
// its norm, in one pass over the states. What costs is reading the states from memory, 10 KB a token and
// state at width 5120, once; everything else must hide behind it:
//   logits   four tokens at a time against the router, whose rows stay in the second-level cache; meanwhile
//   the states
//            of the first of the four are prefetched
//   mix      a strip of channels stays in registers while all states are added to it; the strip's place in
//   the next
//            token's rows is prefetched meanwhile, because so many streams are more than the hardware follows
//   norm     on the mixed row, in f32 and in the first-level cache
#include "cpu/kernels/rows.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
namespace {

constexpr int kTokens = 4;  // whose logits are made together
constexpr int kRouterRows =
    FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 4 : 2;                     // kTokens * kRouterRows sums in registers
constexpr int kStrip = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 8 : 4;  // vectors of a strip, even
constexpr int64_t kStripChannels = kStrip * kLanes;

/// 2 * kLanes neighbouring elements in whichever order is cheapest to load: f32 as they lie, bf16 as its even
/// and odd elements, which are a shift and a mask away. `in_order` undoes it.
struct Pair {
  Floats a, b;
};

void prefetch(const void* from, size_t bytes) {
  for (size_t byte = 0; byte < bytes; byte += 64)
    __builtin_prefetch(static_cast<const char*>(from) + byte, 0,
                       2);  // into the second level: all states are too much
}  // for the first

Pair load_pair(const float* from) { return {load(from), load(from + kLanes)}; }

Pair load_pair(const uint16_t* from) {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return {(Floats)(words << 16), (Floats)(words & 0xffff0000u)};
}

Pair in_order(float, Pair pair) { return pair; }

Pair in_order(uint16_t, Pair pair) {
  Ints first, second;
  for (int i = 0; i < kLanes; i++) {
    first[i] = i / 2 + (i % 2) * kLanes;
    second[i] = first[i] + kLanes / 2;
  }
  return {__builtin_shuffle(pair.a, pair.b, first), __builtin_shuffle(pair.a, pair.b, second)};
}

/// logits[t][i] = x_t . router_i for kTokens tokens, all in the same instructions: what a block lacks at its
/// end is the last one again. On the way the rows of `states` at `offset` are prefetched.
template <class T>
void route(const T* const x[kTokens], const T* router, const void* const* states, int64_t offset, int count,
           int64_t channels, float logits[kTokens][kMaxStates]) {
  const int64_t even = channels / (2 * kLanes) * (2 * kLanes);
  for (int first = 0; first < count; first += kRouterRows) {
    const T* rows[kRouterRows];
    for (int i = 0; i < kRouterRows; i++)
      rows[i] = router + (first + i < count ? first + i : count - 1) * channels;
    Floats sums[kTokens][kRouterRows] = {};
    for (int64_t c = 0; c < even; c += 2 * kLanes) {
      for (int i = first; i < first + kRouterRows && i < count; i++)
        prefetch(static_cast<const T*>(states[i]) + offset + c, 2 * kLanes * sizeof(T));
      Pair r[kRouterRows];
      for (int i = 0; i < kRouterRows; i++) r[i] = load_pair(rows[i] + c);
      for (int t = 0; t < kTokens; t++) {
        const Pair v = load_pair(x[t] + c);
        for (int i = 0; i < kRouterRows; i++) sums[t][i] = fma(v.b, r[i].b, fma(v.a, r[i].a, sums[t][i]));
      }
    }
    for (int64_t c = even; c < channels; c += kLanes) {
      for (int t = 0; t < kTokens; t++)
        for (int i = 0; i < kRouterRows; i++)
          sums[t][i] =
              fma(load_some(x[t] + c, channels - c), load_some(rows[i] + c, channels - c), sums[t][i]);
    }
    for (int t = 0; t < kTokens; t++)
      for (int i = 0; i < kRouterRows && first + i < count; i++) logits[t][first + i] = sum(sums[t][i]);
  }
}

void softmax(float* values, const float* bias, int count) {
  for (int i = 0; bias && i < count; i++) values[i] += bias[i];
  float largest = values[0];
  for (int i = 1; i < count; i++) largest = values[i] > largest ? values[i] : largest;
  const float total = sum_vectors(count, [&](int64_t i, int64_t n) FSV_INLINE {
    const Floats e = first_lanes(exp(load_some(values + i, n) - largest), n);
    store_some(values + i, e, n);
    return e;
  });
  const Floats share = set(1.0f / total);
  each_vector(count, [&](int64_t i, int64_t n)
                         FSV_INLINE { store_some(values + i, load_some(values + i, n) * share, n); });
}

/// row = sum_i factors[i] * (states[i] - means[i]), states at `offset`; without means they are 0. `next` is
/// how far behind lies what will be read after this row, 0 if nothing.
template <bool kCentred, class T>
void mix(const void* const* states, int count, int64_t offset, int64_t next, const float* factors,
         const float* means, int64_t channels, float* row) {
  int64_t c = 0;
  for (; c + kStripChannels <= channels; c += kStripChannels) {
    Pair sums[kStrip / 2] = {};
    for (int i = 0; i < count; i++) {
      const T* x = static_cast<const T*>(states[i]) + offset + c;
      if (next) prefetch(x + next, kStripChannels * sizeof(T));
      const Floats factor = set(factors[i]);
      const Floats mean = set(kCentred ? means[i] : 0.0f);
      for (int s = 0; s < kStrip / 2; s++) {
        Pair v = load_pair(x + s * 2 * kLanes);
        if constexpr (kCentred) v = {v.a - mean, v.b - mean};
        sums[s] = {fma(v.a, factor, sums[s].a), fma(v.b, factor, sums[s].b)};
      }
    }
    for (int s = 0; s < kStrip / 2; s++) {
      const Pair v = in_order(T{}, sums[s]);
      store(row + c + s * 2 * kLanes, v.a);
      store(row + c + (s * 2 + 1) * kLanes, v.b);
    }
  }
  for (; c < channels; c += kLanes) {
    const int64_t n = channels - c;
    Floats total = {};
    for (int i = 0; i < count; i++) {
      Floats v = load_some(static_cast<const T*>(states[i]) + offset + c, n);
      if constexpr (kCentred) v -= set(means[i]);
      total = fma(v, set(factors[i]), total);
    }
    store_some(row + c, total, n);
  }
}

struct Moments {
  float mean, scale;  ///< scale = 1 / sqrt(variance + eps)
};

template <class T>
Moments moments(const T* x, int64_t channels, float eps) {
  const float size = static_cast<float>(channels);
  const float mean =
      sum_vectors(channels, [&](int64_t c, int64_t n) FSV_INLINE { return load_some(x + c, n); }) / size;
  const float variance = sum_vectors(channels,
                                     [&](int64_t c, int64_t n) FSV_INLINE {
                                       const Floats d = first_lanes(load_some(x + c, n) - set(mean), n);
                                       return d * d;
                                     }) /
                         size;
  return {mean, 1.0f / __builtin_sqrtf(variance + eps)};
}

template <class T>
void finish(const LayerMemoryTask& task, int64_t token) {
  const int64_t channels = task.channels, sample = token / task.tokens_a_sample;
  const float* scale = task.scale ? task.scale + sample * channels : nullptr;
  const float* shift = task.shift ? task.shift + sample * channels : nullptr;
  T* out = static_cast<T*>(task.out) + token * channels;
  const Moments m = task.pre_mix ? Moments{0, 1} : moments(task.row, channels, task.eps);
  each_vector(channels, [&](int64_t c, int64_t n) FSV_INLINE {
    Floats v = (load_some(task.row + c, n) - set(m.mean)) * set(m.scale);
    const Floats add = shift ? load_some(shift + c, n) : Floats{};
    v = scale ? fma(v, load_some(scale + c, n) + 1.0f, add) : v + add;
    store_some(out + c, v, n);
  });
}

template <class T>
void remember(const LayerMemoryTask& task, int64_t begin, int64_t end) {
  const int64_t channels = task.channels;
  alignas(64) float logits[kTokens][kMaxStates];
  float factors[kMaxStates], means[kMaxStates];
  for (int64_t block = begin; block < end; block += kTokens) {
    const T* x[kTokens];
    for (int t = 0; t < kTokens; t++)
      x[t] = static_cast<const T*>(task.router_input) + (block + t < end ? block + t : end - 1) * channels;
    route(x, static_cast<const T*>(task.router), task.states, block * channels, task.count, channels, logits);
    for (int64_t token = block; token < end && token < block + kTokens; token++) {
      float* weights = logits[token - block];
      softmax(weights, task.router_bias, task.count);
      if (task.weights) std::memcpy(task.weights + token * task.count, weights, sizeof(float) * task.count);
      const int64_t offset = token * channels;
      const bool last = token + 1 == end || token + 1 == block + kTokens;
      if (task.pre_mix) {
        for (int i = 0; i < task.count; i++) {
          const Moments m = moments(static_cast<const T*>(task.states[i]) + offset, channels, task.eps);
          means[i] = m.mean;
          factors[i] = weights[i] * m.scale;
        }
        mix<true, T>(task.states, task.count, offset, 0, factors, means, channels, task.row);
      } else {
        mix<false, T>(task.states, task.count, offset, last ? 0 : channels, weights, nullptr, channels,
                      task.row);
      }
      finish<T>(task, token);
    }
  }
}

}  // namespace

void layer_memory(const LayerMemoryTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) { remember<decltype(stored)>(task, begin, end); });
}

}  // namespace fsv::cpu::FSV_ISA
