// Sum of up to eight tensors with a coefficient each: a solver's step or guidance, in one pass over the
// operands.
#pragma once

#include "cuda/ptx/ptx.cuh"
#include "ops/ops.h"

namespace fsv::cuda::kernels {

struct CombineParams {
  const void* terms[kMaxTerms];
  bool is_bf16[kMaxTerms];
  float coefficients[kMaxTerms];
  const float* factors;  ///< takes the coefficients' place where it is given: read when the kernel runs
  int count;
  void* out;
  bool out_is_bf16;
  int64_t elements;
};

inline constexpr int kCombineThreads = 256;

FSV_DEVICE float combine_term(const CombineParams& p, int term, int64_t i) {
  if (p.is_bf16[term]) return ptx::bf16_lo(ptx::ldg(static_cast<const uint16_t*>(p.terms[term]) + i));
  return ptx::ldg(static_cast<const float*>(p.terms[term]) + i);
}

FSV_KERNEL void FSV_BOUNDS(kCombineThreads, 1) combine(FSV_GRID_CONSTANT CombineParams p) {
  const int64_t i = int64_t{blockIdx.x} * kCombineThreads + threadIdx.x;
  if (i >= p.elements) return;
  float sum = 0;
  for (int term = 0; term < p.count; term++) {
    const float factor = p.factors ? ptx::ldg(p.factors + term) : p.coefficients[term];
    sum = fmaf(combine_term(p, term, i), factor, sum);
  }
  if (p.out_is_bf16)
    ptx::stg(static_cast<uint16_t*>(p.out) + i, static_cast<uint16_t>(ptx::pack_bf16(sum, 0)));
  else
    ptx::stg(static_cast<float*>(p.out) + i, sum);
}

}  // namespace fsv::cuda::kernels
