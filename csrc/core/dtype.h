// Element types of tensors and the exact conversions between them and float: the scalar truth that every
// backend's vector code is tested against. The conversions are integer arithmetic and selects, so plain loops
// over them vectorise, and they do not depend on the flush-to-zero state of the thread.
// Formats: bfloat16 as in IEEE binary32 cut to 16 bits; fp8 E4M3FN of "FP8 Formats for Deep Learning" (arXiv
// 2209.05433): bias 7, no infinities, 0x7f and 0xff are NaN, largest finite 448.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

namespace fsv {

enum class DType : uint8_t { f32, bf16, f8e4m3, i32, u8 };

inline constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f8e4m3, DType::i32, DType::u8};

/// Bytes of one element.
constexpr size_t size_of(DType dtype) {
  constexpr uint8_t kSizes[] = {4, 2, 1, 4, 1};
  return kSizes[static_cast<size_t>(dtype)];
}

/// The name that JavaScript and our error messages use.
constexpr std::string_view name_of(DType dtype) {
  constexpr std::string_view kNames[] = {"f32", "bf16", "f8e4m3", "i32", "u8"};
  return kNames[static_cast<size_t>(dtype)];
}

/// Inverse of name_of; nothing for any other text.
constexpr std::optional<DType> parse_dtype(std::string_view name) {
  for (DType dtype : kDTypes)
    if (name_of(dtype) == name) return dtype;
  return std::nullopt;
}

/// One bfloat16 as stored. No arithmetic: kernels compute in float.
struct Bf16 {
  uint16_t bits;
};

/// One fp8 E4M3FN as stored.
struct F8e4m3 {
  uint8_t bits;
};

inline constexpr float kF8e4m3Max = 448.0f;

constexpr float to_float(float value) { return value; }

/// `condition ? yes : no` in masks, so that the compiler has no branch to sink a float operation into: with
/// `?:` g++ 12 leaves the fp8 loops scalar.
constexpr uint32_t select_bits(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}

/// Exact.
constexpr float to_float(Bf16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

/// Exact. Both NaN codes give a quiet NaN of the same sign.
constexpr float to_float(F8e4m3 value) {
  const uint32_t sign = uint32_t{value.bits & 0x80u} << 24;
  const uint32_t magnitude = value.bits & 0x7fu;
  const uint32_t normal = (magnitude << 20) + (120u << 23);  // exponent bias 7 -> 127
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-9f);
  const uint32_t finite = select_bits(magnitude < 8, subnormal, normal);
  return std::bit_cast<float>(select_bits(magnitude == 0x7f, 0x7fc00000u, finite) | sign);
}

/// Nearest bfloat16, ties to even; beyond the largest finite value infinity; NaN keeps sign and upper payload
/// and becomes quiet.
constexpr Bf16 to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {static_cast<uint16_t>(is_nan ? quiet_nan : rounded)};
}

/// Nearest fp8 E4M3FN, ties to even; everything beyond 448, infinities too, saturates to +-448; NaN becomes
/// 0x7f with the sign kept.
constexpr F8e4m3 to_f8e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // From 2^-6 up: drop 20 mantissa bits and shift the exponent bias 127 -> 7.
  const uint32_t normal = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  const uint32_t saturated = normal < 0x7eu ? normal : 0x7eu;
  // Below: codes count multiples of 2^-9, which is the spacing of floats at 2^14, so the addition does the
  // rounding.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) - std::bit_cast<uint32_t>(0x1p14f);
  const uint32_t finite = select_bits(magnitude < 0x3c800000u /* 2^-6 */, subnormal, saturated);
  return {static_cast<uint8_t>(select_bits(magnitude > 0x7f800000u, 0x7fu, finite) | sign)};
}

/// The DType that elements of type T are stored as, for code templated over stored types.
template <class T>
consteval DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  if constexpr (std::is_same_v<T, Bf16>) return DType::bf16;
  if constexpr (std::is_same_v<T, F8e4m3>) return DType::f8e4m3;
  if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
}

/// to_float's inverse, by type: from_float<Bf16>(x).
template <class T>
constexpr T from_float(float value);
template <>
constexpr float from_float<float>(float value) {
  return value;
}
template <>
constexpr Bf16 from_float<Bf16>(float value) {
  return to_bf16(value);
}
template <>
constexpr F8e4m3 from_float<F8e4m3>(float value) {
  return to_f8e4m3(value);
}

}  // namespace fsv
