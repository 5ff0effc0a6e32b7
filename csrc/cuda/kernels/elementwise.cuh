// Ops on elements, and those on rows of two halves or sums of tables. All in one pass: packs of 16 bytes
// where the pointers allow it, the rest and what does not lie so one by one.
#pragma once

#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/sheet.cuh"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

template <int N>
struct Count {
  static constexpr int value = N;
};

/// body(Count<N>, i) for packs of N elements from i on, then body(Count<1>, i) for those behind the last
/// pack. `packs` is 0 where a pointer is not aligned.
template <int N, class Body>
FSV_DEVICE void each_pack(int64_t packs, int64_t elements, const Body& body) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x,
                step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = first; i < packs; i += step) body(Count<N>{}, i * N);
  for (int64_t i = packs * N + first; i < elements; i += step) body(Count<1>{}, i);
}

struct MapTask {
  const void* x;
  void* out;
  int64_t packs, elements;
};

/// out = function(x), element by element; `function` works on N floats in place.
template <class X, class Y, class Function>
FSV_DEVICE void map(const MapTask& task, const Function& function) {
  each_pack<kPack<X, Y>>(task.packs, task.elements, [&](auto count, int64_t i) {
    float v[decltype(count)::value];
    load(static_cast<const X*>(task.x) + i, v);
    function(v);
    store(static_cast<Y*>(task.out) + i, v);
  });
}

template <class X, class Y>
FSV_KERNEL void FSV_BOUNDS(256, 4) cast(MapTask task) {
  map<X, Y>(task, [](auto&) {});
}

template <class T>
FSV_KERNEL void FSV_BOUNDS(256, 4) activate_elements(MapTask task, Activation activation) {
  map<T, T>(task, [&](auto& v) { activate(activation, v); });
}

template <class Y>
FSV_KERNEL void FSV_BOUNDS(256, 4) from_rgb8(MapTask task) {
  map<uint8_t, Y>(task, [](auto& values) {
    for (float& v : values) v = v / 127.5f - 1.0f;
  });
}

/// Rounds to nearest, ties to even; a NaN gives 0.
template <class X>
FSV_KERNEL void FSV_BOUNDS(256, 4) to_rgb8(MapTask task) {
  map<X, uint8_t>(task, [](auto& values) {
    for (float& v : values) v = rintf(fminf(fmaxf((v + 1.0f) * 127.5f, 0.0f), 255.0f));
  });
}

/// `packs` whole patterns, then single bytes; i % 4 is the byte's place in its word because whole elements
/// come before it.
FSV_KERNEL void FSV_BOUNDS(256, 4) fill(uint8_t* out, uint32_t word, int64_t packs, int64_t bytes) {
  each_pack<16>(packs, bytes, [&](auto count, int64_t i) {
    if constexpr (decltype(count)::value == 1)
      ptx::stg(out + i, static_cast<uint8_t>(word >> (i % 4 * 8)));
    else
      ptx::stg(reinterpret_cast<Pack<uint32_t, 4>*>(out + i), Pack<uint32_t, 4>{{word, word, word, word}});
  });
}

inline constexpr int kCombinePack = 4;  ///< 16 bytes of f32, 8 of bf16: dense accesses of both

struct CombineTask {
  const void* terms[kMaxTerms];
  bool bf16[kMaxTerms];
  float coefficients[kMaxTerms];
  const float* factors;  ///< device memory, or null: coefficients
  int count;
  void* out;
  int64_t packs, elements;
};

/// sum_i c_i x_i. Whether a term is f32 or bf16 is a branch that all threads take alike.
template <class Y>
FSV_KERNEL void FSV_BOUNDS(256, 4) combine(CombineTask task) {
  each_pack<kCombinePack>(task.packs, task.elements, [&](auto count, int64_t i) {
    constexpr int N = decltype(count)::value;
    float sum[N] = {};
    for (int term = 0; term < task.count; term++) {
      const float coefficient = task.factors ? ptx::ldg(task.factors + term) : task.coefficients[term];
      float v[N];
      if (task.bf16[term])
        load(static_cast<const Bf16*>(task.terms[term]) + i, v);
      else
        load(static_cast<const float*>(task.terms[term]) + i, v);
      FSV_UNROLL
      for (int n = 0; n < N; n++) sum[n] = fmaf(v[n], coefficient, sum[n]);
    }
    store(static_cast<Y*>(task.out) + i, sum);
  });
}

struct GluTask {
  const void* x;  ///< [rows, 2 * channels]
  void* out;      ///< [rows, channels]
  int64_t rows, channels;
};

/// First half * silu(second half).
template <class T, int N>
FSV_KERNEL void FSV_BOUNDS(256, 4) glu(GluTask task) {
  const int64_t channels = task.channels;
  each_column(channels / N, [&](int64_t column) {
    const int64_t c = column * N;
    each_row(task.rows, [&](int64_t row) {
      const T* x = static_cast<const T*>(task.x) + row * 2 * channels + c;
      float v[N], gate[N];
      load(x, v);
      load(x + channels, gate);
      FSV_UNROLL
      for (int n = 0; n < N; n++) v[n] *= silu(gate[n]);
      store(static_cast<T*>(task.out) + row * channels + c, v);
    });
  });
}

struct ModulationTask {
  const float *table, *embedding;  ///< [vectors, channels], [samples, vectors, channels]
  float* out;                      ///< [vectors, samples, channels]
  int64_t vectors, samples, channels;
};

FSV_KERNEL void FSV_BOUNDS(256, 4) modulation(ModulationTask task) {
  const int64_t channels = task.channels;
  each_row(task.vectors * task.samples, [&](int64_t row) {
    const int64_t vector = row / task.samples, sample = row - vector * task.samples;
    each_column(channels, [&](int64_t c) {
      ptx::stg(task.out + row * channels + c,
               ptx::ldg(task.table + vector * channels + c) +
                   ptx::ldg(task.embedding + (sample * task.vectors + vector) * channels + c));
    });
  });
}

/// Whether the elements of each block are finite: verdicts [blocks].
template <class T>
FSV_KERNEL void FSV_BOUNDS(256, 4)
    find_infinite(const T* x, int32_t* verdicts, int64_t packs, int64_t elements) {
  uint32_t largest = 0;  // of the bits without the sign: those of infinity and NaN are above all others
  each_pack<kPack<T>>(packs, elements, [&](auto count, int64_t i) {
    float v[decltype(count)::value];
    load(x + i, v);
    for (const float value : v) {
      const uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7fffffffu;
      largest = bits > largest ? bits : largest;
    }
  });
  const uint32_t scratch = ptx::smem_base();
  const bool finite = ptx::vote_all(largest < 0x7f800000u);
  if (ptx::lane_id() == 0) ptx::sts(scratch + threadIdx.x / 32 * 4, int32_t{finite});
  ptx::syncthreads();
  if (threadIdx.x > 0) return;
  int32_t verdict = 1;
  for (uint32_t warp = 0; warp < blockDim.x / 32; warp++) verdict &= ptx::lds<int32_t>(scratch + warp * 4);
  ptx::stg(verdicts + blockIdx.x, verdict);
}

/// One warp: out = 1 where all verdicts are.
FSV_KERNEL void FSV_BOUNDS(32, 1) all_finite(const int32_t* verdicts, int count, int32_t* out) {
  bool finite = true;
  for (int i = ptx::lane_id(); i < count; i += 32) finite = finite && ptx::ldg(verdicts + i) != 0;
  finite = ptx::vote_all(finite);
  if (ptx::lane_id() == 0) ptx::stg(out, int32_t{finite});
}

}  // namespace fsv::cuda::kernels
