// Convolution to a few output channels, such as the three of a picture. With outputs in the lanes most of a
// vector would be empty; so here the lanes are neighbouring pixels, read from planes (conv.h), and the
// weights are broadcast.
#include "cpu/kernels/conv.h"
#include "cpu/kernels/epilogue.h"

namespace fsv::cpu::FSV_ISA {
namespace {

static inline Floats load_plane(const uint32_t* from) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

/// A unit is a channel.
struct FloatUnit {
  static constexpr int kPlanes = 1;
  struct Weight {
    Floats w;
  };
  static inline Weight weight(uint32_t bits) { return {set(std::bit_cast<float>(bits))}; }
  static inline Floats multiply(const Floats* x, const Weight& w, Floats sum) { return fma(x[0], w.w, sum); }
};

#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16
/// A unit is a pair of channels, multiplied at once.
struct PairUnit {
  static constexpr int kPlanes = 1;
  struct Weight {
    __m512i w;
  };
  static inline Weight weight(uint32_t bits) { return {_mm512_set1_epi32(static_cast<int>(bits))}; }
  static inline Floats multiply(const Floats* x, const Weight& w, Floats sum) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x[0], (__m512bh)w.w);
  }
};
#else
/// A unit of the weights is a pair, its two channels are planes of f32.
struct PairUnit {
  static constexpr int kPlanes = 2;
  struct Weight {
    Floats even, odd;
  };
  static inline Weight weight(uint32_t bits) {
    return {set(std::bit_cast<float>(bits << 16)), set(std::bit_cast<float>(bits & 0xffff0000u))};
  }
  static inline Floats multiply(const Floats* x, const Weight& w, Floats sum) {
    return fma(x[1], w.odd, fma(x[0], w.even, sum));
  }
};
#endif

constexpr int kVectors = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 6 : 2;
constexpr int64_t kStrip = kVectors * kLanes;
static_assert(kStrip + 2 * kLanes <= kNarrowSlack);

/// sums[o][0 .. V * kLanes) of the pixels from `first` on.
template <class Unit, int O, int V>
void strip(const NarrowTask& task, int64_t first, float* to) {
  Floats sums[O][V] = {};
  const Window& window = task.window;
  const int64_t plane = window.stride * task.pitch;
  for (int64_t s = 0; s < window.segments; s++) {
    const uint32_t* weights = reinterpret_cast<const uint32_t*>(window.weight + window.weight_offsets[s]);
    const uint32_t* row = reinterpret_cast<const uint32_t*>(window.input + window.offsets[s]) + first;
    for (int64_t i = 0; i < window.kw; i++) {
      const uint32_t* from = row + i % window.stride * task.pitch + i / window.stride;
      for (int64_t u = 0; u < task.units; u++, weights += O, from += Unit::kPlanes * plane) {
        typename Unit::Weight w[O];
        for (int o = 0; o < O; o++) w[o] = Unit::weight(weights[o]);
#pragma GCC unroll 6
        for (int v = 0; v < V; v++) {
          Floats x[Unit::kPlanes];
          for (int n = 0; n < Unit::kPlanes; n++) x[n] = load_plane(from + n * plane + v * kLanes);
#pragma GCC unroll 4
          for (int o = 0; o < O; o++) sums[o][v] = Unit::multiply(x, w[o], sums[o][v]);
        }
      }
    }
  }
  for (int o = 0; o < O; o++)
    for (int v = 0; v < V; v++) store(to + o * kStrip + v * kLanes, sums[o][v]);
}

/// What an epilogue does before the residual, with pixels in the lanes; then pixel by pixel for the rest of
/// it.
template <int O>
void finish_planes(const Epilogue& e, int64_t first, int64_t pixels, const float* sums) {
  alignas(64) float interleaved[kStrip * O];
  with_activation(e.activation, [&](auto act) {
    for (int o = 0; o < O; o++)
      for (int64_t p = 0; p < pixels; p += kLanes) {
        Floats y = load(sums + o * kStrip + p);
        if (e.bias) y += e.bias[o];
        if (e.row_bias) y += e.row_scale * load_some(e.row_bias + first + p, pixels - p);
        y = act(y);
        float lanes[kLanes];
        store(lanes, y);
        for (int i = 0; i < kLanes; i++) interleaved[(p + i) * O + o] = lanes[i];
      }
  });
  Epilogue rest;
  rest.residual = e.residual;
  rest.out = e.out;
  rest.out_dtype = e.out_dtype;
  finish(rest, 0, 1, first * O, pixels * O, interleaved, 0);
}

template <class Unit, int O>
void narrow_to(const NarrowTask& task) {
  alignas(64) float sums[O * kStrip];
  for (int64_t first = 0; first < task.pixels; first += kStrip) {
    const int64_t pixels = task.pixels - first < kStrip ? task.pixels - first : kStrip;
    if (pixels > kStrip - kLanes)
      strip<Unit, O, kVectors>(task, first, sums);
    else
      for (int64_t p = 0; p < pixels; p += kLanes) strip<Unit, O, 1>(task, first + p, sums + p);
    finish_planes<O>(task.epilogue, first, pixels, sums);
  }
}

template <class Unit>
void narrow(const NarrowTask& task) {
  static_assert(kNarrowOutputs == 4);
  switch (task.outputs) {
    case 1:
      return narrow_to<Unit, 1>(task);
    case 2:
      return narrow_to<Unit, 2>(task);
    case 3:
      return narrow_to<Unit, 3>(task);
    case 4:
      return narrow_to<Unit, 4>(task);
  }
}

}  // namespace

void narrow_f32(const NarrowTask& task) { narrow<FloatUnit>(task); }
void narrow_bf16(const NarrowTask& task) { narrow<PairUnit>(task); }

}  // namespace fsv::cpu::FSV_ISA
