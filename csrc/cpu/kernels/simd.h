// One vector of floats per instruction set, and the transcendental functions on it: what the epilogue of a
// matrix product and the softmax are written in. The arithmetic is the compiler's vector extension, so one
// source serves every instruction set; only what that cannot say (fused multiply-add, masked access, rounding
// to bf16) has a line an instruction set. Worst errors against float64, in units of the last place of the
// result: exp and exp2 1.1, silu 2.4, gelu 7 down to x = -12, gelu_tanh 8 above -2 and, as its argument
// grows, 20 at -4.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX2
#include <immintrin.h>
#endif

namespace fsv::cpu::FSV_ISA {

#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
inline constexpr int kLanes = 16;
#elif FSV_ISA_LEVEL >= FSV_LEVEL_AVX2
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

static inline Floats load(const float* from) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
static inline void store(float* to, Floats v) { std::memcpy(to, &v, sizeof v); }

/// The first n <= kLanes elements, zeros behind.
static inline Floats load_some(const float* from, int64_t n) {
  if (n >= kLanes) return load(from);
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
  return (Floats)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), from);
#else
  Floats v = {};
  for (int64_t i = 0; i < n; i++) v[i] = from[i];
  return v;
#endif
}
static inline void store_some(float* to, Floats v, int64_t n) {
  if (n >= kLanes) return store(to, v);
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#else
  for (int64_t i = 0; i < n; i++) to[i] = v[i];
#endif
}

static inline Floats widen(Halves bits) { return (Floats)(__builtin_convertvector(bits, Words) << 16); }

/// Round to nearest even; NaN stays NaN. The same bits as core/dtype.h's to_bf16, denormals included, which
/// the machine's own instruction would make zero.
static inline Halves narrow(Floats v) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16
  constexpr int kDenormal = 0x20;
  if (_mm512_fpclass_ps_mask((__m512)v, kDenormal) == 0) [[likely]]
    return (Halves)_mm512_cvtneps_pbh((__m512)v);
#endif
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words nan = (bits >> 16) | 0x40u;
  return __builtin_convertvector((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded, Halves);
}

static inline Floats load_bf16_some(const uint16_t* from, int64_t n) {
  Halves bits = {};
  if (n >= kLanes)
    std::memcpy(&bits, from, sizeof bits);
  else
    for (int64_t i = 0; i < n; i++) bits[i] = from[i];
  return widen(bits);
}
static inline void store_bf16_some(uint16_t* to, Floats v, int64_t n) {
  const Halves bits = narrow(v);
  if (n >= kLanes)
    std::memcpy(to, &bits, sizeof bits);
  else
    for (int64_t i = 0; i < n; i++) to[i] = bits[i];
}

static inline Floats set(float value) { return value - Floats{}; }

/// a * b + c, rounded once where the machine can.
static inline Floats fma(Floats a, Floats b, Floats c) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif FSV_ISA_LEVEL >= FSV_LEVEL_AVX2
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

/// The larger; b when either is NaN. (The plain AVX-512 forms of some intrinsics make g++ 12 warn of an
/// undefined operand of its own: hence masks of all ones.)
static inline Floats max(Floats a, Floats b) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
  return (Floats)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif FSV_ISA_LEVEL >= FSV_LEVEL_AVX2
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

/// Lane i gets lane (i + Width) % kLanes.
template <int Width>
static inline Floats rotate(Floats v) {
  Ints from;
  for (int i = 0; i < kLanes; i++) from[i] = (i + Width) % kLanes;
  return __builtin_shuffle(v, from);
}

/// Transposes a square of words: lane j of vector i for lane i of vector j.
static inline void transpose_square(Words (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
    Words low, high;  // lanes of two vectors `step` apart: those of the first count up from 0, of the second
                      // from kLanes
    for (int i = 0; i < kLanes; i++) {
      low[i] = static_cast<uint32_t>(i & step ? kLanes + i - step : i);
      high[i] = static_cast<uint32_t>(i & step ? kLanes + i : i + step);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) {
      if (i & step) continue;
      const Words a = rows[i], b = rows[i + step];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + step] = __builtin_shuffle(a, b, high);
    }
  }
}

/// The largest element.
static inline float largest(Floats v) {
  if constexpr (kLanes > 8) v = max(v, rotate<8>(v));
  if constexpr (kLanes > 4) v = max(v, rotate<4>(v));
  v = max(v, rotate<2>(v));
  return max(v, rotate<1>(v))[0];
}

/// Whether an element is above `limit`, or NaN.
static inline bool any_not_below(Floats v, float limit) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
  return _mm512_cmp_ps_mask((__m512)v, (__m512)set(limit), _CMP_NLE_UQ) != 0;
#elif FSV_ISA_LEVEL >= FSV_LEVEL_AVX2
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, (__m256)set(limit), _CMP_NLE_UQ)) != 0;
#else
  for (int i = 0; i < kLanes; i++)
    if (!(v[i] <= limit)) return true;
  return false;
#endif
}

/// The sum of all elements, halves against halves.
static inline float sum(Floats v) {
  if constexpr (kLanes > 8) v += rotate<8>(v);
  if constexpr (kLanes > 4) v += rotate<4>(v);
  v += rotate<2>(v);
  return (v + rotate<1>(v))[0];
}

/// mantissa * 2^n for whole n; `shifted` is n + 0x1.8p23f, whose low bits are n.
static inline Floats scale_by_power(Floats mantissa, Floats n, Floats shifted) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
  static_cast<void>(shifted);
  return (Floats)_mm512_maskz_scalef_ps(0xffff, (__m512)mantissa, (__m512)n);
#else
  static_cast<void>(n);
  const Ints whole =
      (Ints)shifted - 0x4b400000;  // in two factors that are ordinary numbers, whatever their product is
  const Ints half = whole >> 1;
  return mantissa * (Floats)((half + 127) << 23) * (Floats)((whole - half + 127) << 23);
#endif
}

/// e^x: 2^n * (1 + r + r^2 q(r)) with x = n ln 2 + r; q is a minimax fit on |r| <= ln 2 / 2 (error 3.4e-9).
static inline Floats exp(Floats x) {
  const Floats limit = set(104.0f);  // beyond, the result is 0 or infinite whatever r
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const Floats magic = set(0x1.8p23f);  // adding it rounds to an integer that can be read from the low bits
  const Floats shifted = fma(x, set(0x1.715476p0f), magic);
  const Floats n = shifted - magic;
  const Floats r =
      fma(n, set(-0x1.7f7d1cp-20f), fma(n, set(-0x1.62e4p-1f), x));  // ln 2 in two parts, the first exact
  Floats q = fma(set(0.0013951719738543034f), r, set(0.008369598537683487f));
  q = fma(q, r, set(0.0416661873459816f));
  q = fma(q, r, set(0.16666512191295624f));
  q = fma(q, r, set(0.5f));
  const Floats p = fma(q * r, r, r) + 1.0f;
  return scale_by_power(p, n, shifted);
}

/// 2^x: 2^n * (1 + r q(r)) with x = n + r, exactly; q is a minimax fit on |r| <= 1 / 2 (error 1.9e-9).
static inline Floats exp2(Floats x) {
  const Floats limit = set(160.0f);
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const Floats magic = set(0x1.8p23f);
  const Floats shifted = x + magic;
  const Floats n = shifted - magic;
  const Floats r = x - n;
  Floats q = fma(set(0.00015476279077120125f), r, set(0.0013400234747678041f));
  q = fma(q, r, set(0.009618003852665424f));
  q = fma(q, r, set(0.055503278970718384f));
  q = fma(q, r, set(0.24022650718688965f));
  q = fma(q, r, set(0.6931471824645996f));
  return scale_by_power(fma(q, r, set(1.0f)), n, shifted);
}

/// 2^x, exact enough to be rounded to bf16: to a relative error of 7.5e-5, a twenty-fifth of what rounding
/// adds, where that is cheaper. The fraction above the next lower whole number goes through a minimax cubic
/// on [0, 1]. -infinity gives 0.
static inline Floats exp2_coarse(Floats x) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
  constexpr int kAboveFloor = 0x01;
  const Floats r = (Floats)_mm512_maskz_reduce_ps(0xffff, (__m512)x, kAboveFloor);
  Floats q = fma(set(0.07802452147006989f), r, set(0.22606715559959412f));
  q = fma(q, r, set(0.6958335638046265f));
  q = fma(q, r, set(0.9999251961708069f));
  return (Floats)_mm512_maskz_scalef_ps(0xffff, (__m512)q, (__m512)x);  // by 2^floor(x)
#else
  return exp2(x);
#endif
}

/// Two vectors as bf16, rounded to nearest even; what would be a denormal may become 0. Returns the sum of
/// what was stored, two neighbours a lane.
static inline Floats store_bf16_pair(uint16_t* to, Floats first, Floats second) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16
  const auto pairs = (Words)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  std::memcpy(to, &pairs, sizeof pairs);
#else
  store_bf16_some(to, first, kLanes);
  store_bf16_some(to + kLanes, second, kLanes);
  Words pairs;
  std::memcpy(&pairs, to, sizeof pairs);
#endif
  return (Floats)(pairs << 16) + (Floats)(pairs & 0xffff0000u);
}

/// 1 / (1 + e^-x)
static inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp(-x)); }

static inline Floats silu(Floats x) { return x / (1.0f + exp(-x)); }

/// x sigmoid(2 y), y = sqrt(2 / pi) (x + 0.044715 x^3), which is x (1 + tanh y) / 2.
static inline Floats gelu_tanh(Floats x) {
  const Floats cubic = fma(x * x * 0.044715f, x, x);
  return x / (1.0f + exp(cubic * -1.5957691216057308f));
}

/// x Phi(x). Phi(-|x|) = e^(-x^2 / 2) R(|x|); R is u times a polynomial in u = 1 / (1 + |x| / 4), a minimax
/// fit of relative error 8e-9 up to |x| = 14, where Phi has left the range of floats.
static inline Floats gelu(Floats x) {
  const Floats magnitude = (Floats)((Words)x & 0x7fffffffu);
  const Floats t = magnitude > 14.5f ? set(14.5f) : magnitude;
  const Floats u = 1.0f / fma(t, set(0.25f), set(1.0f));
  Floats p = fma(set(0.016579629853367805f), u, set(-0.06279202550649643f));
  p = fma(p, u, set(0.05165195092558861f));
  p = fma(p, u, set(0.028436511754989624f));
  p = fma(p, u, set(0.012711125425994396f));
  p = fma(p, u, set(0.08665736764669418f));
  p = fma(p, u, set(0.0719992145895958f));
  p = fma(p, u, set(0.09551577270030975f));
  p = fma(p, u, set(0.09949254989624023f));
  p = fma(p, u, set(0.0997479036450386f));
  const Floats half_square = t * t * 0.5f;
  const Floats lost = fma(t * 0.5f, t, -half_square);  // by rounding, which the exponential would magnify
  const Floats tail = exp(-half_square) * (p * u) * (1.0f - lost);
  return x * (x < 0.0f ? tail : 1.0f - tail);
}

static inline Floats relu(Floats x) { return x < 0.0f ? Floats{} : x; }

}  // namespace fsv::cpu::FSV_ISA
