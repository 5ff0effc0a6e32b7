// Layer memory (paper eq. 6-8): for every token a softmax over all earlier states, their weighted sum, and
// its norm, in one pass over the states. What costs is reading the states from memory, 10 KB a token and
// state at width 5120, once; everything else must hide behind it. A block of tokens goes through
//   route    logits of the block against the router, whose rows stay in the second-level cache; meanwhile the
//   states'
//            rows that are wanted first are prefetched
//   mix      a few states at a time, each a stream through all tokens of the block: as many as the hardware's
//            prefetchers follow, and long enough for them to run ahead. A strip of channels stays in
//            registers while the states are added to it; between the groups of states it is kept in f32
//   finish   norm and modulation of the mixed rows
// Ten streams and four tokens reach nine tenths of the speed of a plain read of the states (one core of Zen
// 4); twenty streams or one token two thirds, software prefetches instead of the hardware's three quarters.
#include "cpu/kernels/rows.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
namespace {

constexpr int kTokens = kMemoryTokens;
constexpr int kStreams = 10;  // states that are read at a time
constexpr int kRouterRows =
    FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 4 : 2;                     // kTokens * kRouterRows sums in registers
constexpr int kPairs = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 4 : 2;  // of vectors in a strip
constexpr int64_t kPair = 2 * kLanes;

/// 2 * kLanes neighbouring elements in whichever order is cheapest to load: f32 as they lie, bf16 as its even
/// and odd elements, which are a shift and a mask away. `in_order` undoes it.
struct Pair {
  Floats a, b;
};

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

/// Channels that are handled in pairs; behind them come single vectors, in order.
int64_t paired(int64_t channels) { return channels / kPair * kPair; }

void prefetch(const void* from, size_t bytes) {
  for (size_t byte = 0; byte < bytes; byte += 64)
    __builtin_prefetch(static_cast<const char*>(from) + byte, 0, 2);  // into the second level
}

/// The states of a block that are mixed at the same time.
template <class T>
struct Group {
  const T* rows[kStreams];  // of the block's first token
  int first, size;
};

/// States in groups of at most kStreams, as even as can be; their sums depend on `count` alone.
template <class T>
Group<T> group_of(const LayerMemoryTask& task, int index, int groups, int64_t token) {
  Group<T> group;
  group.first = task.count * index / groups;
  group.size = task.count * (index + 1) / groups - group.first;
  for (int i = 0; i < group.size; i++)
    group.rows[i] = static_cast<const T*>(task.states[group.first + i]) + token * task.channels;
  return group;
}

/// logits[t][i] = x_t . router_i for kTokens tokens, all in the same instructions: what a block of `tokens`
/// lacks is the last one again. On the way as many rows of `next` as there are states are prefetched.
template <class T>
void route(const LayerMemoryTask& task, int64_t token, int64_t tokens, const Group<T>& next,
           float logits[kTokens][kMaxStates]) {
  const int64_t channels = task.channels;
  const T* x[kTokens];
  for (int64_t t = 0; t < kTokens; t++)
    x[t] = static_cast<const T*>(task.router_input) + (token + (t < tokens ? t : tokens - 1)) * channels;
  for (int first = 0; first < task.count; first += kRouterRows) {
    const T *rows[kRouterRows], *wanted[kRouterRows];
    for (int i = 0; i < kRouterRows; i++) {
      const int row = first + i < task.count ? first + i : task.count - 1;
      rows[i] = static_cast<const T*>(task.router) + row * channels;
      const int64_t t = row / next.size < tokens ? row / next.size : 0;
      wanted[i] = next.rows[row % next.size] + t * channels;
    }
    Floats sums[kTokens][kRouterRows] = {};
    int64_t c = 0;
    for (; c < paired(channels); c += kPair) {
      Pair r[kRouterRows];
      for (int i = 0; i < kRouterRows; i++) {
        prefetch(wanted[i] + c, kPair * sizeof(T));
        r[i] = load_pair(rows[i] + c);
      }
      for (int t = 0; t < kTokens; t++) {
        const Pair v = load_pair(x[t] + c);
        for (int i = 0; i < kRouterRows; i++) sums[t][i] = fma(v.b, r[i].b, fma(v.a, r[i].a, sums[t][i]));
      }
    }
    for (; c < channels; c += kLanes)
      for (int t = 0; t < kTokens; t++)
        for (int i = 0; i < kRouterRows; i++)
          sums[t][i] =
              fma(load_some(x[t] + c, channels - c), load_some(rows[i] + c, channels - c), sums[t][i]);
    for (int t = 0; t < kTokens; t++)
      for (int i = 0; i < kRouterRows && first + i < task.count; i++) logits[t][first + i] = sum(sums[t][i]);
  }
}

/// Weights that no sum of f32 could tell from 0 are 0: a denormal one would cost an Intel core a hundred
/// cycles in each of its products.
constexpr float kLeastWeight = 0x1p-100f;

void softmax(float* values, const float* bias, int count) {
  for (int i = 0; bias && i < count; i++) values[i] += bias[i];
  float largest = values[0];
  for (int i = 1; i < count; i++) largest = values[i] > largest ? values[i] : largest;
  const float total = sum_vectors(count, [&](int64_t i, int64_t n) FSV_INLINE {
    Floats e = first_lanes(exp(load_some(values + i, n) - largest), n);
    e = e < kLeastWeight ? Floats{} : e;
    store_some(values + i, e, n);
    return e;
  });
  const Floats share = set(1.0f / total);
  each_vector(count, [&](int64_t i, int64_t n)
                         FSV_INLINE { store_some(values + i, load_some(values + i, n) * share, n); });
}

/// row (+)= sum_i factors[i] * (rows[i] - means[i]) over kCount pairs at c; without means they are 0.
template <bool kCentred, int kCount, class T>
void mix_strip(const T* const* rows, int size, const float* factors, const float* means, bool first,
               int64_t c, float* row) {
  Pair sums[kCount];
  for (int p = 0; p < kCount; p++) {
    const float* at = row + c + p * kPair;
    sums[p] = first ? Pair{} : Pair{load(at), load(at + kLanes)};
  }
  for (int i = 0; i < size; i++) {
    const Floats factor = set(factors[i]);
    for (int p = 0; p < kCount; p++) {
      Pair v = load_pair(rows[i] + c + p * kPair);
      if constexpr (kCentred) v = {v.a - means[i], v.b - means[i]};
      sums[p] = {fma(v.a, factor, sums[p].a), fma(v.b, factor, sums[p].b)};
    }
  }
  for (int p = 0; p < kCount; p++) {
    store(row + c + p * kPair, sums[p].a);
    store(row + c + p * kPair + kLanes, sums[p].b);
  }
}

/// The group's part of one token's sum, added to `row` unless it is the first. Pairs stay as load_pair gives
/// them.
template <bool kCentred, class T>
void mix(const T* const* rows, int size, const float* factors, const float* means, bool first,
         int64_t channels, float* row) {
  int64_t c = 0;
  for (; c + kPairs * kPair <= channels; c += kPairs * kPair)
    mix_strip<kCentred, kPairs>(rows, size, factors, means, first, c, row);
  for (; c < paired(channels); c += kPair) mix_strip<kCentred, 1>(rows, size, factors, means, first, c, row);
  for (; c < channels; c += kLanes) {
    const int64_t n = channels - c;
    Floats total = first ? Floats{} : load_some(row + c, n);
    for (int i = 0; i < size; i++) {
      Floats v = load_some(rows[i] + c, n);
      if constexpr (kCentred) v -= means[i];
      total = fma(v, set(factors[i]), total);
    }
    store_some(row + c, total, n);
  }
}

/// Means of `size` rows read side by side, each in the same order of its own channels.
template <class T>
void means_of(const T* const* rows, int size, int64_t channels, float* means) {
  Floats sums[kStreams] = {};
  int64_t c = 0;
  for (; c + 2 * kPair <= channels; c += 2 * kPair)
    for (int i = 0; i < size; i++) {
      const Pair v = load_pair(rows[i] + c), w = load_pair(rows[i] + c + kPair);
      sums[i] += (v.a + v.b) + (w.a + w.b);
    }
  for (; c < channels; c += kLanes)
    for (int i = 0; i < size; i++) sums[i] += load_some(rows[i] + c, channels - c);
  for (int i = 0; i < size; i++) means[i] = sum(sums[i]) / static_cast<float>(channels);
}

/// 1 / sqrt(mean of (x - mean)^2 + eps), prefetching what lies `ahead` of x.
template <class T>
float reciprocal_deviation(const T* x, int64_t channels, float mean, float eps, int64_t ahead) {
  const float squares = sum_vectors(channels, [&](int64_t c, int64_t n) FSV_INLINE {
    if (ahead) __builtin_prefetch(x + c + ahead, 0, 2);
    const Floats d = first_lanes(load_some(x + c, n) - mean, n);
    return d * d;
  });
  return 1.0f / __builtin_sqrtf(squares / static_cast<float>(channels) + eps);
}

/// out = norm(row) (1 + scale) + shift; the norm is done already in pre_mix.
template <class T>
void finish(const LayerMemoryTask& task, int64_t token, const float* row) {
  const int64_t channels = task.channels, sample = token / task.tokens_a_sample;
  const float* scale = task.scale ? task.scale + sample * channels : nullptr;
  const float* shift = task.shift ? task.shift + sample * channels : nullptr;
  T* out = static_cast<T*>(task.out) + token * channels;
  float mean = 0, factor = 1;
  if (!task.pre_mix) {
    means_of(&row, 1, channels, &mean);
    factor = reciprocal_deviation(row, channels, mean, task.eps, 0);
  }
  const auto write = [&](Floats v, int64_t c, int64_t n) FSV_INLINE {
    v = (v - mean) * factor;
    const Floats add = shift ? load_some(shift + c, n) : Floats{};
    v = scale ? fma(v, load_some(scale + c, n) + 1.0f, add) : v + add;
    store_some(out + c, v, n);
  };
  int64_t c = 0;
  for (; c < paired(channels); c += kPair) {
    const Pair v = in_order(T{}, {load(row + c), load(row + c + kLanes)});
    write(v.a, c, kLanes);
    write(v.b, c + kLanes, kLanes);
  }
  for (; c < channels; c += kLanes) write(load_some(row + c, channels - c), c, channels - c);
}

template <class T>
void remember(const LayerMemoryTask& task, int64_t begin, int64_t end) {
  const int64_t channels = task.channels;
  const int groups = (task.count + kStreams - 1) / kStreams;
  alignas(64) float weights[kTokens][kMaxStates];
  for (int64_t block = begin; block < end; block += kTokens) {
    const int64_t tokens = end - block < kTokens ? end - block : kTokens;
    route(task, block, tokens, group_of<T>(task, 0, groups, block), weights);
    for (int64_t t = 0; t < tokens; t++) {
      softmax(weights[t], task.router_bias, task.count);
      if (task.weights)
        std::memcpy(task.weights + (block + t) * task.count, weights[t], sizeof(float) * task.count);
    }
    for (int g = 0; g < groups; g++) {
      Group<T> group = group_of<T>(task, g, groups, block);
      for (int64_t t = 0; t < tokens; t++) {
        const float* factors = weights[t] + group.first;
        float* row = task.rows + t * channels;
        if (task.pre_mix) {
          float means[kStreams], scaled[kStreams];
          means_of(group.rows, group.size, channels, means);
          for (int i = 0; i < group.size; i++)
            scaled[i] = factors[i] * reciprocal_deviation(group.rows[i], channels, means[i], task.eps,
                                                          t + 1 < tokens ? channels : 0);
          mix<true>(group.rows, group.size, scaled, means, g == 0, channels, row);
        } else {
          mix<false>(group.rows, group.size, factors, nullptr, g == 0, channels, row);
        }
        for (int i = 0; i < group.size; i++) group.rows[i] += channels;
      }
    }
    for (int64_t t = 0; t < tokens; t++) finish<T>(task, block + t, task.rows + t * channels);
  }
}

}  // namespace

void layer_memory(const LayerMemoryTask& task, int64_t begin, int64_t end) {
  with_stored(task.dtype, [&](auto stored) { remember<decltype(stored)>(task, begin, end); });
}

}  // namespace fsv::cpu::FSV_ISA
