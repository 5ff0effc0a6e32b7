// The contract of every op: its arguments, what it computes, and two functions that both backends, the
// binding and the benchmarks share. `check(args)` throws ERR_FSVIDEO_INVALID_ARGUMENT naming op and field,
// and otherwise returns what the result will be; nobody checks again. `cost(args)` counts floating point
// operations and the least bytes that must move (every operand read once, the result written once): the
// roofline's two numbers.
//
// Letters: B batch, N tokens, H heads, D head size, C channels, T frames; H, W also height and width.
// Matrices and activations are f32 or bf16 (all of one op alike); vectors (bias, norm weight, scale, shift,
// gate, coefficients) are f32. Accumulation, norms and softmax are f32. `out` is allocated by the caller from
// check's result.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "ops/activation.h"

namespace fsv {

struct Cost {
  double flops = 0;
  double bytes = 0;
};

/// fp8 comes with f32 scales, value = f8e4m3 * scale: one a row, [...] for x [..., K], or one for kScaleGroup
/// channels of a row, [..., ceil(K / kScaleGroup)]. Ops that quantise their result give it the latter.
inline constexpr int64_t kScaleGroup = 128;
inline Shape row_scales(Shape x) {
  x.rank--;
  return x;
}
inline Shape group_scales(Shape x) {
  x[-1] = (x[-1] + kScaleGroup - 1) / kScaleGroup;
  return x;
}
/// Scales of a row of x; 0 where all of the row has one.
inline int64_t scale_groups(const TensorView& scales, const TensorView& x) {
  return scales.shape.rank == x.shape.rank ? scales.shape[-1] : 0;
}

/// y = residual + gate * act(x W^T + bias).
/// x [..., K]; weight [N, K] (plain, or packed_linear; f8e4m3 with weight_scale f32 [N]); x of f8e4m3 has
/// x_scale, a scale a row or a group, and a plain weight of f8e4m3; bias f32 [N];
/// gate f32 [B, N] with B = x.shape[0] (constant over the tokens of a sample), or of the result's dtype and
/// shape; residual of the result's dtype and shape. Result [..., N] of `dtype`: f32, bf16, or f8e4m3 with
/// out_scales for groups, without gate and residual then.
struct LinearArgs {
  TensorView x, x_scale, weight, weight_scale, bias, gate, residual, out, out_scales;
  Activation activation = Activation::none;
  DType dtype = DType::f32;
};

/// softmax(q k^T * scale + bias) v, not causal. q [B, Nq, H, D]; k, v [B, Nk, H, D]; bias f32 [H, Nq, Nk],
/// the same for every sample; key_lengths i32 [B]: keys from there on are not attended (a length of 0 gives
/// zeros). Result as q.
struct AttentionArgs {
  TensorView q, k, v, bias, key_lengths, out;
  float scale = 1;
};

/// ReLU linear attention of EfficientViT (fsvideo-spec 1.4), each of the F leading positions by itself:
/// qkv [F..., N, H * 3 * D], per head q, k, v; o = relu(q) (relu(k)^T [v 1]), first D columns over (last +
/// eps). Result [F..., N, H * D].
struct LinearAttentionArgs {
  TensorView qkv, out;
  int64_t head_dim = 32;
  float eps = 1e-15f;
};

inline constexpr int kMaxStates = 64;

/// Layer memory (paper eq. 6-8). states: `count` tensors [B, N, C]; router_input [B, N, C]; router [count,
/// C]; router_bias f32 [count]; w = softmax(router_input router^T + bias) per token, in f32; post_mix: y =
/// LN(sum_i w_i X_i) (1 + scale) + shift; pre_mix: y = (sum_i w_i LN(X_i)) (1 + scale) + shift. scale, shift
/// f32 [B, C]. Result [B, N, C] of `dtype`: that of the states, or f8e4m3 with out_scales for groups.
/// weights, if given, receives w, f32 [B, N, count].
struct LayerMemoryArgs {
  TensorView states[kMaxStates];
  int count = 0;
  TensorView router_input, router, router_bias, scale, shift, weights, out, out_scales;
  bool pre_mix = false;
  float eps = 1e-6f;
  DType dtype = DType::f32;
};

/// Norm over the last axis, then modulation: y = (norm(x) * weight + bias) (1 + scale) + shift.
/// x [B, ..., C]; weight, bias f32 [C]; scale, shift f32 [B, C]. `rms`: x / sqrt(mean x^2 + eps) (T5), else
/// LayerNorm. Result as x, of `dtype`: f32, bf16, or f8e4m3 with out_scales for groups.
struct NormModulateArgs {
  TensorView x, weight, bias, scale, shift, out, out_scales;
  bool rms = false;
  float eps = 1e-6f;
  DType dtype = DType::f32;
};

/// RMS norm over all H * D channels (with `weight` f32 [H * D]; no norm when it is not given), then rotary
/// embedding of interleaved pairs: (a, b) -> (a cos - b sin, a sin + b cos). x [B, N, H * D]; rotations f32
/// [N, D / 2, 2] = (cos, sin). Result [B, N, H, D].
struct QkNormRopeArgs {
  TensorView x, weight, rotations, out;
  int64_t heads = 1;
  float eps = 1e-6f;
};

/// y = act(x / sqrt(mean_c x^2 + eps) * weight + bias + residual), over the last axis. weight, bias f32 [C].
struct PixelNormArgs {
  TensorView x, weight, bias, residual, out;
  Activation activation = Activation::none;
  float eps = 1e-8f;
};

/// y = act(groupnorm(x) * weight + bias + residual); x [B, ..., C], statistics over a group's channels and
/// all the middle axes. weight, bias f32 [C].
struct GroupNormArgs {
  TensorView x, weight, bias, residual, out;
  int64_t groups = 32;
  Activation activation = Activation::none;
  float eps = 1e-5f;
};

/// Channels-last 3D convolution. x [B, T, H, W, C]; weight [O, C / groups, kt, kh, kw] (plain or
/// packed_conv); y = act(conv + bias + noise_weight * noise) + residual, bias f32 [O], noise f32 [H', W'],
/// residual as the result. With `norm`: y = act(pixel_norm(conv + bias + noise_weight * noise)) + residual,
/// over all O, with norm_weight, norm_bias and norm_eps as in PixelNormArgs, and either an activation or a
/// residual: then it does not matter that pixel_norm adds a residual first, and it may follow in place. Time:
/// the input is [pad_left copies of the first frame (or zeros) | before | x | pad_right copies of the last
/// frame (or zeros)]; `before` [B, n, H, W, C] holds the frames that precede x in a stream. T' = (sum of
/// these - kt) / stride_t + 1. group_size g > 0 (kt = 3, stride 1, pad_left + before = 1, pad_right = 1):
/// frame t of x with t >= group_first and (t - group_first) % g == g - 1, and every t < group_first, sees
/// itself (or zeros) instead of its right neighbour. Space: zeros, pad_h and pad_w on both sides. Result [B,
/// T', H', W', O].
struct Conv3dArgs {
  TensorView x, before, weight, bias, noise, residual, out;
  int64_t stride_t = 1, stride_h = 1, stride_w = 1;
  int64_t pad_left = 0, pad_right = 0, pad_h = 0, pad_w = 0;
  int64_t groups = 1;
  int64_t group_size = 0, group_first = 0;
  bool replicate = true;
  Activation activation = Activation::none;
  float noise_weight = 0;
  bool norm = false;
  TensorView norm_weight, norm_bias;
  float norm_eps = 1e-8f;
};

/// Time and space into channels: channel ((c * time + it) * space + ih) * space + iw. x [B, T, H, W, C] with
/// `repeat_first` extra copies of frame 0 on its left. With `channels` < C * r (r = time * space^2)
/// consecutive channels are averaged. `shortcut` [B, T, H, W, Cs] is unshuffled and averaged to the result's
/// channels likewise, and added. Result [B, (T + repeat_first) / time, H / space, W / space, channels].
struct Unshuffle3dArgs {
  TensorView x, shortcut, out;
  int64_t time = 1, space = 1, repeat_first = 0, channels = 0;
};

/// Inverse of unshuffle3d: x [B, T, H, W, C] -> [B, T * time - drop_first, H * space, W * space, channels].
/// With channels * r > C every channel is first repeated channels * r / C times in place (with channels = C:
/// nearest neighbour). `shortcut` [B, T, H, W, Cs] is repeated and shuffled likewise, and added.
struct Shuffle3dArgs {
  TensorView x, shortcut, out;
  int64_t time = 1, space = 1, drop_first = 0, channels = 0;
};

inline constexpr int kMaxTerms = 8;

/// sum_i c_i x_i over tensors of one shape (f32 or bf16, each its own). Coefficients are host scalars, or
/// `factors` f32 [count] read when the op runs (a captured step changes them in between). Result of `dtype`.
struct CombineArgs {
  TensorView terms[kMaxTerms];
  float coefficients[kMaxTerms] = {};
  int count = 0;
  TensorView factors, out;
  DType dtype = DType::f32;
};

/// Normal numbers of core/random.h. Sample b of the result [B, ...] holds elements offset .. of (seeds[b],
/// stream).
struct RandnArgs {
  Shape shape;
  uint64_t seeds[kMaxStates] = {};
  uint64_t stream = 0, offset = 0;
  DType dtype = DType::f32;
  TensorView out;
};

/// Result [...] filled with one value.
struct FillArgs {
  Shape shape;
  DType dtype = DType::f32;
  float value = 0;
  TensorView out;
};

/// Any of f32, bf16, f8e4m3 to any other, round to nearest even, fp8 saturating; i32 to and from f32.
struct CastArgs {
  TensorView x, out;
  DType dtype = DType::f32;
};

/// Tensors that differ only in the size of `axis`, one after the other. Any dtype.
struct ConcatArgs {
  TensorView parts[kMaxStates];
  int count = 0;
  int axis = 0;
  TensorView out;
};

/// x[..., start : end, ...] on `axis`. Any dtype.
struct SliceArgs {
  TensorView x, out;
  int axis = 0;
  int64_t start = 0, end = 0;
};

/// Axes in another order: out.shape[i] = x.shape[order[i]]. Any dtype.
struct PermuteArgs {
  TensorView x, out;
  int order[kMaxRank] = {};
};

/// Rows of table [V, C] by ids i32 [...]; result [..., C]. Ids outside the table give NaN (the host checks
/// its own).
struct EmbeddingArgs {
  TensorView table, ids, out;
};

/// The vectors of a block: table f32 [K, C] + embedding f32 [B, K * C], rearranged to f32 [K, B, C].
struct ModulationArgs {
  TensorView table, embedding, out;
};

/// x [..., C] * scale + shift, f32 [C] each. Result of `dtype`.
struct AffineArgs {
  TensorView x, scale, shift, out;
  DType dtype = DType::f32;
};

/// act(x), elementwise.
struct ActivateArgs {
  TensorView x, out;
  Activation activation = Activation::silu;
};

/// x [..., 2C] -> first half * silu(second half), [..., C].
struct GluArgs {
  TensorView x, out;
};

/// u8 [..., C] -> x / 127.5 - 1, of `dtype`.
struct FromRgb8Args {
  TensorView x, out;
  DType dtype = DType::f32;
};

/// f32 or bf16 -> u8: round((x + 1) * 127.5), ties to even, clamped to 0..255; NaN gives 0.
struct ToRgb8Args {
  TensorView x, out;
};

/// x [..., K] f32 or bf16 as f8e4m3 (that is `out`) with scales for rows or for groups, whichever shape they
/// have: scale = max|x| / 448 over a row or group (1 for zeros), values = x / scale.
struct QuantizeFp8Args {
  TensorView x, scales, out;
};

/// values f8e4m3 [..., K] * scales of rows or groups, of `dtype`.
struct DequantizeFp8Args {
  TensorView x, scales, out;
  DType dtype = DType::f32;
};

/// i32 [1]: 1 if every element of x is finite, else 0.
struct AllFiniteArgs {
  TensorView x, out;
};

/// The refiner's mask (paper 2.4.2): e = mean over C of |a - b| for a, b [B, 1, H, W, C], min-max normalised
/// a sample to [lo, hi] (`scalar`: the mean of that map everywhere); `confidence` gives lo + hi - e. An error
/// map without any spread is lo. Result [B, frames, H, W, channels] of `dtype`: frame 0 is 1, every other
/// frame the map.
struct DynamicMaskArgs {
  TensorView a, b, out;
  int64_t frames = 1, channels = 4;
  float lo = 0.1f, hi = 0.9f;
  bool scalar = false, confidence = false;
  DType dtype = DType::f32;
};

/// Weight in the backend's own order for `linear` (weight [N, K], with `scales` f32 [N] if f8e4m3) or
/// `conv3d` (weight [O, C / groups, kt, kh, kw]).
struct PackArgs {
  TensorView weight, scales, out;
  Layout layout = Layout::packed_linear;
  int64_t groups = 1;
};

#define FSV_FOR_EACH_OP(X)             \
  X(linear, Linear)                    \
  X(attention, Attention)              \
  X(linear_attention, LinearAttention) \
  X(layer_memory, LayerMemory)         \
  X(norm_modulate, NormModulate)       \
  X(qk_norm_rope, QkNormRope)          \
  X(pixel_norm, PixelNorm)             \
  X(group_norm, GroupNorm)             \
  X(conv3d, Conv3d)                    \
  X(unshuffle3d, Unshuffle3d)          \
  X(shuffle3d, Shuffle3d)              \
  X(combine, Combine)                  \
  X(randn, Randn)                      \
  X(fill, Fill)                        \
  X(cast, Cast)                        \
  X(concat, Concat)                    \
  X(slice, Slice)                      \
  X(permute, Permute)                  \
  X(embedding, Embedding)              \
  X(modulation, Modulation)            \
  X(affine, Affine)                    \
  X(activate, Activate)                \
  X(glu, Glu)                          \
  X(from_rgb8, FromRgb8)               \
  X(to_rgb8, ToRgb8)                   \
  X(quantize_fp8, QuantizeFp8)         \
  X(dequantize_fp8, DequantizeFp8)     \
  X(all_finite, AllFinite)             \
  X(dynamic_mask, DynamicMask)         \
  X(pack, Pack)

#define FSV_DECLARE(name, Name)             \
  TensorSpec check(const Name##Args& args); \
  Cost cost(const Name##Args& args);
FSV_FOR_EACH_OP(FSV_DECLARE)
#undef FSV_DECLARE

}  // namespace fsv
