// Host twins of csrc/cuda/ptx/math.cuh.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"

namespace fsv::ptx {

inline float ex2(float x) { return std::exp2(x); }
inline float lg2(float x) { return std::log2(x); }
inline float tanh_fast(float x) { return std::tanh(x); }
inline float rcp_fast(float x) { return 1.0f / x; }
inline float rsqrt_fast(float x) { return 1.0f / std::sqrt(x); }
inline uint32_t not_hoisted(uint32_t value) { return value; }
inline uint32_t umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }

inline uint32_t pack_bf16(float lo, float hi) { return to_bf16(lo).bits | uint32_t{to_bf16(hi).bits} << 16; }
inline float bf16_lo(uint32_t word) { return std::bit_cast<float>(word << 16); }
inline float bf16_hi(uint32_t word) { return std::bit_cast<float>(word & 0xffff0000u); }
inline uint32_t pack_e4m3(float lo, float hi) {
  return to_f8e4m3(lo).bits | uint32_t{to_f8e4m3(hi).bits} << 8;
}
inline float e4m3_lo(uint32_t word) { return to_float(F8e4m3{static_cast<uint8_t>(word)}); }
inline float e4m3_hi(uint32_t word) { return to_float(F8e4m3{static_cast<uint8_t>(word >> 8)}); }

}  // namespace fsv::ptx
