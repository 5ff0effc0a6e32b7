// Approximate functions of the special function units, and conversions of pairs.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cuda/ptx/target.cuh"

namespace fsv::ptx {

/// 2^x and log2 x. Denormal arguments and results count as 0.
FSV_DEVICE float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FSV_DEVICE float lg2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

FSV_DEVICE float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FSV_DEVICE float rcp_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FSV_DEVICE float rsqrt_fast(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// The same value. The compiler computes what follows from it no earlier than here: out of a loop, it would
/// hold a register all along.
FSV_DEVICE uint32_t not_hoisted(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// The high word of a product.
FSV_DEVICE uint32_t umulhi(uint32_t a, uint32_t b) { return __umulhi(a, b); }

/// Two bfloat16 in a word, `lo` in the low half.
FSV_DEVICE uint32_t pack_bf16(float lo, float hi) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(hi), "f"(lo));
  return word;
}
FSV_DEVICE float bf16_lo(uint32_t word) { return __uint_as_float(word << 16); }
FSV_DEVICE float bf16_hi(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

/// Two fp8 e4m3 in the low half of a word, saturated to +-448.
FSV_DEVICE uint32_t pack_e4m3(float lo, float hi) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
  unsigned short pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(hi), "f"(lo));
  return pair;
#else
  return to_f8e4m3(lo).bits | uint32_t{to_f8e4m3(hi).bits} << 8;
#endif
}
FSV_DEVICE float e4m3_lo(uint32_t word) { return to_float(F8e4m3{static_cast<uint8_t>(word)}); }
FSV_DEVICE float e4m3_hi(uint32_t word) { return to_float(F8e4m3{static_cast<uint8_t>(word >> 8)}); }

}  // namespace fsv::ptx
