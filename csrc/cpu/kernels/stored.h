// Elements as rows store them, f32, bf16 (its bits, uint16_t) or fp8, behind the same names as simd.h's
// floats, so that a row kernel is one template over them; and loops over a row in whole vectors and one
// partial.
#pragma once

#include "core/dtype.h"
#include "cpu/kernels/simd.h"
#include "ops/ops.h"

#define FSV_INLINE __attribute__((always_inline))

namespace fsv::cpu::FSV_ISA {

static inline Floats load(const uint16_t* from) {
  Halves bits;
  std::memcpy(&bits, from, sizeof bits);
  return widen(bits);
}
static inline void store(uint16_t* to, Floats v) {
  const Halves bits = narrow(v);
  std::memcpy(to, &bits, sizeof bits);
}

#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
static inline Floats load_some(const uint16_t* from, int64_t n) {
  if (n >= kLanes) return load(from);
  return widen((Halves)_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), from));
}
static inline void store_some(uint16_t* to, Floats v, int64_t n) {
  if (n >= kLanes) return store(to, v);
  _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1u << n) - 1), (__m256i)narrow(v));
}
#else
static inline Floats load_some(const uint16_t* from, int64_t n) { return load_bf16_some(from, n); }
static inline void store_some(uint16_t* to, Floats v, int64_t n) { store_bf16_some(to, v, n); }
#endif

typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

static inline Words load_bytes(const uint8_t* from, int64_t n) {
  Bytes bytes = {};
  std::memcpy(&bytes, from, static_cast<size_t>(n));
  return __builtin_convertvector(bytes, Words);
}
static inline void store_bytes(uint8_t* to, Words words, int64_t n) {
  const Bytes bytes = __builtin_convertvector(words, Bytes);
  std::memcpy(to, &bytes, static_cast<size_t>(n));
}

/// One fp8 E4M3FN as stored.
struct F8 {
  uint8_t bits;
};

/// As to_float(F8e4m3) of core/dtype.h.
static inline Floats load_some(const F8* from, int64_t n) {
  const Words words = load_bytes(&from->bits, n);
  const Words sign = (words & 0x80u) << 24, magnitude = words & 0x7fu;
  const Floats subnormal = __builtin_convertvector((Ints)magnitude, Floats) * 0x1p-9f;
  const Words finite = magnitude < 8u ? (Words)subnormal : (magnitude << 20) + (120u << 23);
  return (Floats)((magnitude == 0x7fu ? (Words)(Words{} + 0x7fc00000u) : finite) | sign);
}

/// As to_f8e4m3 of core/dtype.h.
static inline void store_some(F8* to, Floats v, int64_t n) {
  const Words bits = (Words)v, sign = (bits >> 24) & 0x80u, magnitude = bits & 0x7fffffffu;
  const Words normal = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  const Words largest = Words{} + 0x7eu;
  const Words saturated = normal < largest ? normal : largest;
  const Words subnormal = (Words)((Floats)magnitude + 0x1p14f) - (Words)(Floats{} + 0x1p14f);
  const Words finite = magnitude < 0x3c800000u ? subnormal : saturated;
  store_bytes(&to->bits, (magnitude > 0x7f800000u ? (Words)(Words{} + 0x7fu) : finite) | sign, n);
}

/// body(offset, n) over [0, size): n is kLanes, a constant once inlined, for all but the last.
template <class Body>
FSV_INLINE static inline void each_vector(int64_t size, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) body(i, int64_t{kLanes});
  if (i < size) body(i, size - i);
}

/// sum over [0, size) of value(offset, n), which must be 0 in lanes from n on. The order depends on `size`
/// alone.
template <class Value>
FSV_INLINE static inline float sum_vectors(int64_t size, const Value& value) {
  Floats s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    s0 += value(i, int64_t{kLanes});
    s1 += value(i + kLanes, int64_t{kLanes});
    s2 += value(i + 2 * kLanes, int64_t{kLanes});
    s3 += value(i + 3 * kLanes, int64_t{kLanes});
  }
  for (; i + kLanes <= size; i += kLanes) s0 += value(i, int64_t{kLanes});
  if (i < size) s1 += value(i, size - i);
  return sum((s0 + s1) + (s2 + s3));
}

/// Lanes from n on set to 0.
static inline Floats first_lanes(Floats v, int64_t n) {
  if (n >= kLanes) return v;
  Ints lane;
  for (int i = 0; i < kLanes; i++) lane[i] = i;
  return lane < static_cast<int32_t>(n) ? v : Floats{};
}

static inline Floats absolute(Floats v) { return (Floats)((Words)v & 0x7fffffffu); }

template <Activation kind>
static inline Floats activated(Floats v) {
  if constexpr (kind == Activation::silu) return silu(v);
  if constexpr (kind == Activation::relu) return relu(v);
  if constexpr (kind == Activation::gelu) return gelu(v);
  if constexpr (kind == Activation::gelu_tanh) return gelu_tanh(v);
  return v;
}

/// body(float{}) or body(uint16_t{}).
template <class Body>
static inline void with_stored(DType dtype, const Body& body) {
  if (dtype == DType::bf16)
    body(uint16_t{});
  else
    body(float{});
}

template <Activation kind>
struct Activator {
  Floats operator()(Floats v) const { return activated<kind>(v); }
};

/// body(act), act(v) the activation of a vector.
template <class Body>
static inline void with_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::none:
      return body(Activator<Activation::none>{});
    case Activation::silu:
      return body(Activator<Activation::silu>{});
    case Activation::relu:
      return body(Activator<Activation::relu>{});
    case Activation::gelu:
      return body(Activator<Activation::gelu>{});
    case Activation::gelu_tanh:
      return body(Activator<Activation::gelu_tanh>{});
  }
}

}  // namespace fsv::cpu::FSV_ISA
