// Elements as tensors store them (f32, bf16, fp8, bytes), moved in packs of neighbours, one access of up to
// 16 bytes a pack. Kernels are templates over N, the elements of a pack: kPack where all addresses allow it,
// else 1. They compute in floats.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype.h"
#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

/// N neighbours that one access moves.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T elements[N];
};

/// Elements of a pack between a tensor of X and one of Y: what fills 16 bytes of the wider. Both accesses are
/// then dense over a warp.
template <class X, class Y = X>
inline constexpr int kPack = 16 / (sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));

/// An i32 as stored; arithmetic is on floats alone.
struct Int32 {
  int32_t value;
};
FSV_DEVICE float widened(float value) { return value; }
FSV_DEVICE float widened(Bf16 value) { return to_float(value); }
FSV_DEVICE float widened(F8e4m3 value) { return to_float(value); }
FSV_DEVICE float widened(uint8_t value) { return static_cast<float>(value); }
FSV_DEVICE float widened(Int32 value) { return static_cast<float>(value.value); }

/// Two floats rounded to T, by one conversion, the first in the low bits.
FSV_DEVICE uint32_t narrowed_pair(Bf16, float a, float b) { return ptx::pack_bf16(a, b); }
FSV_DEVICE uint32_t narrowed_pair(F8e4m3, float a, float b) { return ptx::pack_e4m3(a, b); }

FSV_DEVICE void narrow(float value, float& to) { to = value; }
FSV_DEVICE void narrow(float value, uint8_t& to) { to = static_cast<uint8_t>(value); }
/// Nearest, ties to even; saturating, and 0 of a NaN.
FSV_DEVICE void narrow(float value, Int32& to) {
  const float v = rintf(value);
  to.value = v >= 0x1p31f ? INT32_MAX : v >= -0x1p31f ? static_cast<int32_t>(v) : v < 0 ? INT32_MIN : 0;
}
FSV_DEVICE void narrow(float value, auto& to) {
  to.bits = static_cast<decltype(to.bits)>(narrowed_pair(to, value, 0.0f));
}

template <class T, int N>
FSV_DEVICE Pack<T, N> narrowed(const float* values) {
  Pack<T, N> pack;
  if constexpr (requires(T t) { narrowed_pair(t, 0.0f, 0.0f); } && N % 2 == 0) {
    using Pair = std::conditional_t<sizeof(T) == 2, uint32_t, uint16_t>;
    Pair pairs[N / 2];
    FSV_UNROLL
    for (int i = 0; i < N / 2; i++)
      pairs[i] = static_cast<Pair>(narrowed_pair(T{}, values[2 * i], values[2 * i + 1]));
    std::memcpy(&pack, pairs, sizeof pack);
  } else {
    FSV_UNROLL
    for (int n = 0; n < N; n++) narrow(values[n], pack.elements[n]);
  }
  return pack;
}

/// bf16 by words, which is what registers hold them in until here.
template <class T, int N>
FSV_DEVICE void widen(const Pack<T, N>& pack, float (&to)[N]) {
  if constexpr (std::is_same_v<T, Bf16> && N % 2 == 0) {
    uint32_t words[N / 2];
    std::memcpy(words, &pack, sizeof pack);
    FSV_UNROLL
    for (int i = 0; i < N / 2; i++)
      to[2 * i] = ptx::bf16_lo(words[i]), to[2 * i + 1] = ptx::bf16_hi(words[i]);
  } else {
    FSV_UNROLL
    for (int n = 0; n < N; n++) to[n] = widened(pack.elements[n]);
  }
}

template <int N, class T>
FSV_DEVICE Pack<T, N> load_pack(const T* from) {
  return ptx::ldg(reinterpret_cast<const Pack<T, N>*>(from));
}

/// By elements, from wherever they are.
template <int N, class T>
FSV_DEVICE Pack<T, N> load_singly(const T* from) {
  Pack<T, N> pack;
  FSV_UNROLL
  for (int n = 0; n < N; n++) pack.elements[n] = ptx::ldg(from + n);
  return pack;
}

/// N neighbours as floats. More than 16 bytes take several accesses.
template <int N, class T>
FSV_DEVICE void load(const T* from, float (&to)[N]) {
  constexpr int kAtOnce = N < kPack<T> ? N : kPack<T>;
  FSV_UNROLL
  for (int first = 0; first < N; first += kAtOnce) {
    float values[kAtOnce];
    widen(load_pack<kAtOnce>(from + first), values);
    FSV_UNROLL
    for (int n = 0; n < kAtOnce; n++) to[first + n] = values[n];
  }
}

template <int N, class T>
FSV_DEVICE void store(T* to, const float (&from)[N]) {
  constexpr int kAtOnce = N < kPack<T> ? N : kPack<T>;
  FSV_UNROLL
  for (int first = 0; first < N; first += kAtOnce)
    ptx::stg(reinterpret_cast<Pack<T, kAtOnce>*>(to + first), narrowed<T, kAtOnce>(from + first));
}

}  // namespace fsv::cuda::kernels
