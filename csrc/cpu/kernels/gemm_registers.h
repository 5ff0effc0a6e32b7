// The micro-kernels in registers: the sums of a block stay there over all of K. Blocks are 14 x 32 with
// AVX-512 (28 sums, 2 vectors of W, 1 broadcast: 31 of 32 registers), 6 x 16 with AVX2, 4 x 8 otherwise;
// loads stay well below one for each multiplication, so that L2 can feed them.
#pragma once

#include <array>
#include <utility>

#include "cpu/kernels/gemm_block.h"

namespace fsv::cpu::FSV_ISA {

/// Where the rows of a block begin. Groups have pointers; the rows behind a group's first are one, two and
/// three strides away, which are x86 addresses with two index registers.
template <int R>
struct RowPointers {
  static constexpr int kRows = kGroupRows<R>;
  static constexpr int kGroups = (R + kRows - 1) / kRows;
  const char* group[kGroups];
  int64_t stride, three;

  RowPointers(const char* base, const Steps& steps) : stride(steps.stride), three(3 * steps.stride) {
    int64_t left = steps.left;
    for (int g = 0; g < kGroups; g++) {
      group[g] = base;
      asm("" : "+r"(group[g]));  // or the compiler makes one of every row again, and spills
      base += kRows * stride;
      left -= kRows;
      if (left == 0) {
        base += steps.jump;
        left = steps.run;
      }
    }
  }
  template <class T>
  T at(int row, int64_t byte) const {
    const int i = row % kRows;
    const char* from = group[row / kRows] + (i == 3 ? three : i * stride) + byte;
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  void advance(int64_t bytes) {
    for (int g = 0; g < kGroups; g++) group[g] += bytes;
  }
};

template <int R, int V>
struct Sums {
  Floats at[R][V];

  Sums() {
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) at[r][v] = Floats{};
  }
  void load_from(const float* c, int64_t c_stride) {
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) at[r][v] = load(c + r * c_stride + v * kLanes);
  }
  void store_to(float* c, int64_t c_stride) const {
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) store(c + r * c_stride + v * kLanes, at[r][v]);
  }
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16
  /// The machine's rounding makes denormals zero: the caller knows that there are none.
  void round_to(uint16_t* out, const Steps& steps, const float* bias) const {
    Floats b[V];
    for (int v = 0; v < V; v++) b[v] = bias ? load(bias + v * kLanes) : Floats{};
    int64_t left = steps.left;
#pragma GCC unroll 32
    for (int r = 0; r < R; r++, out += steps.stride) {
      if (r > 0 && r % kGroupRows<R> == 0 && (left -= kGroupRows<R>) == 0) {
        out += steps.jump;
        left = steps.run;
      }
      if constexpr (V == 2) {
        const auto halves = _mm512_cvtne2ps_pbh((__m512)(at[r][1] + b[1]), (__m512)(at[r][0] + b[0]));
        std::memcpy(out, &halves, sizeof halves);
      } else {
        const auto halves = _mm512_cvtneps_pbh((__m512)(at[r][0] + b[0]));
        std::memcpy(out, &halves, sizeof halves);
      }
    }
  }
#endif
};

/// One k: R numbers of A, each times V vectors of W.
struct MultiplyF32 {
  static constexpr DType kPanel = DType::f32;
  static constexpr int kDepth = 1;  // elements of k a step

  template <int R, int V>
  static inline void step(Sums<R, V>& sums, const RowPointers<R>& a, int64_t i, const char* b) {
    Floats w[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) std::memcpy(&w[v], b + v * sizeof(Floats), sizeof(Floats));
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      const Floats x = set(a.template at<float>(r, 4 * i));
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sums.at[r][v] = fma(x, w[v], sums.at[r][v]);
    }
  }
};

#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16

/// Two k: R pairs of A, each times V vectors of pairs of W.
struct MultiplyBf16 {
  static constexpr DType kPanel = DType::bf16;
  static constexpr int kDepth = 2;

  template <int R, int V, class Bits>
  static inline void step_pair(Sums<R, V>& sums, const RowPointers<R>& a, int64_t i, const char* b) {
    __m512i w[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) w[v] = _mm512_loadu_si512(b + v * sizeof(Floats));
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a.template at<Bits>(r, 4 * i)));
#pragma GCC unroll 2
      for (int v = 0; v < V; v++)
        sums.at[r][v] = (Floats)_mm512_dpbf16_ps((__m512)sums.at[r][v], (__m512bh)x, (__m512bh)w[v]);
    }
  }
  template <int R, int V>
  static inline void step(Sums<R, V>& sums, const RowPointers<R>& a, int64_t i, const char* b) {
    step_pair<R, V, uint32_t>(sums, a, i, b);
  }
  /// The last element of an odd k, its neighbour taken as zero and not read.
  template <int R, int V>
  static inline void last(Sums<R, V>& sums, const RowPointers<R>& a, int64_t i, const char* b) {
    step_pair<R, V, uint16_t>(sums, a, i, b);
  }
};

#else

/// Two k: A is f32 (widened once by the caller), W's pairs are widened with a shift and a mask.
struct MultiplyBf16 {
  static constexpr DType kPanel = DType::bf16;
  static constexpr int kDepth = 2;

  template <int R, int V>
  static inline void step(Sums<R, V>& sums, const RowPointers<R>& a, int64_t i, const char* b) {
    Words w[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) std::memcpy(&w[v], b + v * sizeof(Words), sizeof(Words));
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      const Floats even = set(a.template at<float>(r, 8 * i));
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sums.at[r][v] = fma(even, (Floats)(w[v] << 16), sums.at[r][v]);
    }
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      const Floats odd = set(a.template at<float>(r, 8 * i + 4));
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sums.at[r][v] = fma(odd, (Floats)(w[v] & 0xffff0000u), sums.at[r][v]);
    }
  }
  template <int R, int V>
  static inline void last(Sums<R, V>& sums, const RowPointers<R>& a, int64_t i, const char* b) {
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
      const Floats even = set(a.template at<float>(r, 8 * i));
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) {
        Words w;
        std::memcpy(&w, b + v * sizeof(Words), sizeof(Words));
        sums.at[r][v] = fma(even, (Floats)(w << 16), sums.at[r][v]);
      }
    }
  }
};

#endif

/// Rows of A times the V * kLanes columns of a panel that start at `b`, columns `col` of the target.
template <class Multiply, int R, int V>
static void multiply_registers(const RowSource& rows, const char* b, const Target& to, int64_t col) {
  constexpr int64_t kStepA = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16 ? 4 : 4 * Multiply::kDepth;
  constexpr int64_t kStepB = kPanelCols * 4;  // 32 floats, or 32 pairs of bf16
  constexpr int kUnroll = 4;
  constexpr int64_t kPrefetch =
      1024;  // bytes of the panel ahead, L2 to L1: 1 % faster than the hardware alone
  const int64_t segment = segment_bytes(Multiply::kPanel, rows.k);
  auto next = rows.next;
  auto places = rows.places;
  Sums<R, V> sums;
  if (to.accumulate) sums.load_from(to.sums + col, to.stride);
  for (int64_t s = 0; s < rows.segments; s++) {
    RowPointers<R> a(rows.base + (rows.offsets ? rows.offsets[s] : 0), rows.steps);
    const char* w = b + (rows.panel_offsets ? rows.panel_offsets[s] : s * segment);
    int64_t steps = rows.k / Multiply::kDepth;
    for (; steps >= kUnroll; steps -= kUnroll) {
      for (int64_t i = 0; i < kUnroll; i++)
        for (int v = 0; v < V; v++) __builtin_prefetch(w + kPrefetch + i * kStepB + v * 64);
      next.step();
      places.step();
#pragma GCC unroll 4
      for (int i = 0; i < kUnroll; i++) Multiply::step(sums, a, i, w + i * kStepB);
      a.advance(kUnroll * kStepA);
      w += kUnroll * kStepB;
    }
    for (; steps > 0; steps--) {
      Multiply::step(sums, a, 0, w);
      a.advance(kStepA);
      w += kStepB;
    }
    if constexpr (Multiply::kDepth == 2)
      if (rows.k % 2) Multiply::last(sums, a, 0, w);
  }
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16
  if (to.rounded) return sums.round_to(to.rounded + col, to.steps, to.bias ? to.bias + col : nullptr);
#endif
  sums.store_to(to.sums + col, to.stride);
}

using RegisterKernel = void (*)(const RowSource&, const char*, const Target&, int64_t);

template <class Multiply, int V, int... R>
static constexpr std::array<RegisterKernel, sizeof...(R)> register_kernels(std::integer_sequence<int, R...>) {
  return {multiply_registers<Multiply, R + 1, V>...};
}

/// `count` <= most_rows(cols) rows times cols <= 32 columns of one panel, rounded up to vectors.
template <class Multiply>
static inline void multiply_rows(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                                 const Target& to) {
  static constexpr auto kOne =
      register_kernels<Multiply, 1>(std::make_integer_sequence<int, 2 * kBlockRows>{});
  static constexpr auto kTwo = register_kernels<Multiply, 2>(std::make_integer_sequence<int, kBlockRows>{});
  const size_t i = static_cast<size_t>(count - 1);
  for (int64_t col = 0; col < cols; col += 2 * kLanes)
    (cols - col > kLanes ? kTwo[i] : kOne[i])(rows, panel + col * 4, to, col);
}

}  // namespace fsv::cpu::FSV_ISA
