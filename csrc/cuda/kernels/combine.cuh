// Sum of up to eight tensors with a coefficient each, a solver's step or guidance: one pass over the
// operands, eight elements a thread.
#pragma once

#include "cuda/ptx/ptx.cuh"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

struct CombineParams {
  const void* terms[kMaxTerms];
  bool is_bf16[kMaxTerms];
  float coefficients[kMaxTerms];
  const float* factors;  ///< if given, read in the coefficients' place when the kernel runs
  int count;
  void* out;
  bool out_is_bf16;
  bool aligned;  ///< all of them to 16 bytes
  int64_t elements;
};

inline constexpr int kCombineThreads = 256, kCombineRun = 8;

FSV_DEVICE float combine_load(const void* x, bool is_bf16, int64_t i) {
  return is_bf16 ? ptx::bf16_lo(ptx::ldg(static_cast<const uint16_t*>(x) + i))
                 : ptx::ldg(static_cast<const float*>(x) + i);
}

FSV_DEVICE void combine_store(void* out, bool is_bf16, int64_t i, float value) {
  if (is_bf16)
    ptx::stg(static_cast<uint16_t*>(out) + i, static_cast<uint16_t>(ptx::pack_bf16(value, 0)));
  else
    ptx::stg(static_cast<float*>(out) + i, value);
}

FSV_DEVICE void combine_load_run(float (&v)[kCombineRun], const void* x, bool is_bf16, int64_t i) {
  if (is_bf16) {
    const uint4 words = ptx::ldg(reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(x) + i));
    v[0] = ptx::bf16_lo(words.x), v[1] = ptx::bf16_hi(words.x);
    v[2] = ptx::bf16_lo(words.y), v[3] = ptx::bf16_hi(words.y);
    v[4] = ptx::bf16_lo(words.z), v[5] = ptx::bf16_hi(words.z);
    v[6] = ptx::bf16_lo(words.w), v[7] = ptx::bf16_hi(words.w);
  } else {
    const auto* words = reinterpret_cast<const float4*>(static_cast<const float*>(x) + i);
    const float4 a = ptx::ldg(words), b = ptx::ldg(words + 1);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  }
}

FSV_DEVICE void combine_store_run(void* out, bool is_bf16, int64_t i, const float (&v)[kCombineRun]) {
  if (is_bf16) {
    ptx::stg(reinterpret_cast<uint4*>(static_cast<uint16_t*>(out) + i),
             make_uint4(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]),
                        ptx::pack_bf16(v[6], v[7])));
  } else {
    auto* words = reinterpret_cast<float4*>(static_cast<float*>(out) + i);
    ptx::stg(words, make_float4(v[0], v[1], v[2], v[3]));
    ptx::stg(words + 1, make_float4(v[4], v[5], v[6], v[7]));
  }
}

FSV_KERNEL void FSV_BOUNDS(kCombineThreads, 1) combine(FSV_GRID_CONSTANT CombineParams p) {
  const int64_t first = (int64_t{blockIdx.x} * kCombineThreads + threadIdx.x) * kCombineRun;
  const auto factor = [&](int term) { return p.factors ? ptx::ldg(p.factors + term) : p.coefficients[term]; };
  if (p.aligned && first + kCombineRun <= p.elements) {
    float sum[kCombineRun] = {};
    for (int term = 0; term < p.count; term++) {
      float v[kCombineRun];
      combine_load_run(v, p.terms[term], p.is_bf16[term], first);
      const float c = factor(term);
      FSV_UNROLL for (int i = 0; i < kCombineRun; i++) sum[i] = fmaf(v[i], c, sum[i]);
    }
    combine_store_run(p.out, p.out_is_bf16, first, sum);
    return;
  }
  for (int64_t i = first; i < first + kCombineRun && i < p.elements; i++) {
    float sum = 0;
    for (int term = 0; term < p.count; term++)
      sum = fmaf(combine_load(p.terms[term], p.is_bf16[term], i), factor(term), sum);
    combine_store(p.out, p.out_is_bf16, i, sum);
  }
}

}  // namespace fsv::cuda::kernels
