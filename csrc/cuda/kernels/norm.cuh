// Norms over a row of channels, in one pass over memory: the row waits in registers while its mean and then
// the squared deviations from it are summed (E[x^2] - E[x]^2 would cancel).
#pragma once

#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/divisor.cuh"
#include "cuda/kernels/row.cuh"

namespace fsv::cuda::kernels {

/// Packs of a row that a thread keeps in registers.
template <int N>
inline constexpr int kNormHeld = N < 4 ? 8 : 4;

/// v[n] = op(v[n], from[n]), where `vector` is given.
template <int N, class T, class Op>
FSV_DEVICE void combine_with(float (&v)[N], const T* vector, int64_t at, const Op& op) {
  if (!vector) return;
  float other[N];
  load(vector + at, other);
  FSV_UNROLL
  for (int n = 0; n < N; n++) v[n] = op(v[n], other[n]);
}

struct NormTask {
  const void* x;
  void* out;
  float* out_scales;     ///< of an out of fp8: [rows, ceil(channels / kScaleGroup)]
  const void* residual;  ///< as x
  const float *weight, *bias;
  const float *scale, *shift;  ///< [samples, channels]
  int64_t rows, rows_a_sample, channels;
  int team;
  Activation activation;
  bool rms;
  float eps;
};

/// out = act((norm(x) * weight + bias) * (1 + scale) + shift + residual); vectors that are null are not
/// there.
template <class X, class Y, int N>
FSV_KERNEL void FSV_BOUNDS(kRowThreads, 2) norm_rows(NormTask task) {
  const auto add = [](float a, float b) { return a + b; };
  const auto multiply = [](float a, float b) { return a * b; };
  Team team(task.team);
  team.each_row(task.rows, [&](int64_t row, bool present) {
    const int64_t first = row * task.channels, channels = present ? task.channels : 0;
    const auto source = [&](int64_t c) { return load_pack<N>(static_cast<const X*>(task.x) + first + c); };
    Row<N, kNormHeld<N>, decltype(source)> values(team, channels, source);
    const float size = static_cast<float>(task.channels);
    const float mean = task.rms ? 0.0f : team.sum(values.sum()) / size;
    const float factor = 1.0f / sqrtf(team.sum(values.squares(mean)) / size + task.eps);
    const int64_t sample = row / task.rows_a_sample * task.channels;
    const int64_t groups = (task.channels + kScaleGroup - 1) / kScaleGroup;
    store_row<Y, N>(values, static_cast<Y*>(task.out) + first, task.out_scales + row * groups,
                    [&](int64_t c, float(&v)[N]) {
                      FSV_UNROLL
                      for (int n = 0; n < N; n++) v[n] = (v[n] - mean) * factor;
                      combine_with(v, task.weight, c, multiply);
                      combine_with(v, task.bias, c, add);
                      combine_with(v, task.scale, sample + c,
                                   [](float a, float scale) { return a * (1.0f + scale); });
                      combine_with(v, task.shift, sample + c, add);
                      combine_with(v, static_cast<const X*>(task.residual), first + c, add);
                      activate(task.activation, v);
                    });
  });
}

struct RopeTask {
  const void* x;
  void* out;
  const float* weight;     ///< null: no norm
  const float* rotations;  ///< [tokens, head_dim / 2, 2]
  int64_t rows, tokens, channels;
  Divisor head_dim;
  int team;
  float eps;
};

/// RMS norm of a row of all heads, then the rotation of its pairs: (a, b) -> (a cos - b sin, a sin + b cos).
/// The size of a head is a multiple of N. Packs of 2 are for addresses that allow no more than single
/// elements.
template <class T, int N>
FSV_KERNEL void FSV_BOUNDS(kRowThreads, 2) norm_rope(RopeTask task) {
  const auto get = [](const auto* from, float(&v)[N]) {
    if constexpr (N > 2)
      load(from, v);
    else
      widen(load_singly<N>(from), v);
  };
  Team team(task.team);
  team.each_row(task.rows, [&](int64_t row, bool present) {
    const int64_t first = row * task.channels, channels = present ? task.channels : 0;
    const auto source = [&](int64_t c) {
      const T* x = static_cast<const T*>(task.x) + first + c;
      if constexpr (N > 2)
        return load_pack<N>(x);
      else
        return load_singly<N>(x);
    };
    Row<N, kNormHeld<N>, decltype(source)> values(team, channels, source);
    float factor = 1;
    if (task.weight)
      factor = 1.0f / sqrtf(team.sum(values.squares(0)) / static_cast<float>(task.channels) + task.eps);
    const float* rotations = task.rotations + row % task.tokens * task.head_dim.divisor;
    float rotation[N];
    int64_t loaded = -1;  // a thread's packs are often whole heads apart, and turned alike
    values.each([&](int64_t c, float(&v)[N]) {
      float weight[N];
      if (task.weight) {
        get(task.weight + c, weight);
        FSV_UNROLL
        for (int n = 0; n < N; n++) v[n] = v[n] * factor * weight[n];
      }
      const int64_t at = task.head_dim.rest(static_cast<uint32_t>(c));
      if (at != loaded) get(rotations + at, rotation);
      loaded = at;
      FSV_UNROLL
      for (int n = 0; n < N; n += 2) {
        const float a = v[n], b = v[n + 1], cosine = rotation[n], sine = rotation[n + 1];
        v[n] = fmaf(a, cosine, -(b * sine));
        v[n + 1] = fmaf(a, sine, b * cosine);
      }
      T* out = static_cast<T*>(task.out) + first + c;
      if constexpr (N > 2) {
        store(out, v);
      } else {
        ptx::stg(out, narrowed<T, 1>(v).elements[0]);
        ptx::stg(out + 1, narrowed<T, 1>(v + 1).elements[0]);
      }
    });
  });
}

}  // namespace fsv::cuda::kernels
