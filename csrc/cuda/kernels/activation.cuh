// The activations of ops/ops.h in f32. Their exponentials are one ex2 each and their quotients a
// multiplication by the reciprocal: two or three units in the last place, far below what a bf16 result or an
// f32 sum of products has.
#pragma once
#include "cuda/ptx/ptx.cuh"
#include "ops/activation.h"

namespace fsv::cuda::kernels {

constexpr float kLog2e = 1.4426950408889634f;

/// 1 / (1 + e^-x)
FSV_DEVICE float sigmoid(float x) { return ptx::rcp_fast(1.0f + ptx::ex2(-kLog2e * x)); }

FSV_DEVICE float silu(float x) { return x * sigmoid(x); }

/// x sigmoid(2 y), y = sqrt(2 / pi) (x + 0.044715 x^3), which is x (1 + tanh y) / 2.
FSV_DEVICE float gelu_tanh(float x) {
  return x * sigmoid(1.5957691216057308f * fmaf(0.044715f * x * x, x, x));
}

/// x Phi(x). Phi(-|x|) = e^(-x^2 / 2) R(|x|), R the fit of cpu/kernels/simd.h: u times a polynomial in
/// u = 1 / (1 + |x| / 4). Beyond 14.5 Phi has left the range of floats.
FSV_DEVICE float gelu(float x) {
  const float t = fminf(fabsf(x), 14.5f);
  const float u = ptx::rcp_fast(fmaf(t, 0.25f, 1.0f));
  constexpr float kFit[] = {-0.06279202550649643f, 0.05165195092558861f, 0.028436511754989624f,
                            0.012711125425994396f, 0.08665736764669418f, 0.0719992145895958f,
                            0.09551577270030975f,  0.09949254989624023f, 0.0997479036450386f};
  float p = 0.016579629853367805f;
  FSV_UNROLL for (float c : kFit) p = fmaf(p, u, c);
  const float tail = p * u * ptx::ex2(-0.5f * kLog2e * t * t);
  return x * (x > 0 ? 1.0f - tail : tail);
}

/// act(v) of several values; the branches are the same for the whole grid.
template <int kCount>
FSV_DEVICE void activate(Activation kind, float (&v)[kCount]) {
  if (kind == Activation::none) return;
  if (kind == Activation::relu) FSV_UNROLL for (float& x : v) x = x < 0.0f ? 0.0f : x;
  if (kind == Activation::silu) FSV_UNROLL for (float& x : v) x = silu(x);
  if (kind == Activation::gelu) FSV_UNROLL for (float& x : v) x = gelu(x);
  if (kind == Activation::gelu_tanh) FSV_UNROLL for (float& x : v) x = gelu_tanh(x);
}

}  // namespace fsv::cuda::kernels
