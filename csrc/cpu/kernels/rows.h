// Everything that walks over rows of channels or over elements and is bound by memory: layer memory, norms,
// shuffles, element types, random numbers. cpu/<op>.cpp describes an op as a task and gives ranges of its
// rows (or elements) to the pool; a kernel may do its range in one call or many, with the same bits.
//
// In all tasks tensors are contiguous, `channels` is the last dimension, and vectors that are null stand for
// "not there". Element types are f32 or bf16 where nothing else is said; vectors (weight, scale, ...) are
// f32.
#pragma once

#include <cstdint>

#include "ops/ops.h"

namespace fsv::cpu {

/// Tokens that layer_memory works on together: ranges of a multiple of it waste nothing.
inline constexpr int kMemoryTokens = 4;

/// The whole of layer_memory; a range is of tokens.
struct LayerMemoryTask {
  const void* const* states;  ///< [count], each [tokens, channels]
  int count;
  DType dtype;  ///< of states, router_input, router and out
  const void* router_input;
  const void* router;
  const float* router_bias;
  const float* scale;  ///< [samples, channels], as shift
  const float* shift;
  float* weights;  ///< [tokens, count]
  void* out;
  int64_t tokens_a_sample, channels;
  bool pre_mix;
  float eps;
  float* rows;  ///< [kMemoryTokens, channels], the worker's own
};

/// out = act((norm(x) * weight + bias) * (1 + scale) + shift + residual): norm_modulate and pixel_norm are
/// two uses of it. A range is of rows.
struct NormTask {
  const void* x;
  void* out;
  const void* residual;  ///< as x
  const float *weight, *bias;
  const float *scale, *shift;  ///< [samples, channels]
  int64_t rows_a_sample, channels;
  DType x_dtype, out_dtype;
  Activation activation;
  bool rms;
  float eps;
};

/// RMS norm and rotation of q or k. A range is of rows [heads * head_dim].
struct RopeTask {
  const void* x;
  void* out;
  DType dtype;
  const float* weight;
  const float* rotations;  ///< [tokens, head_dim / 2, 2]
  int64_t tokens, heads, head_dim;
  float eps;
};

/// Mean and sum of squared deviations of every group in pieces of `rows_a_piece` rows of a sample. A range is
/// of pieces, numbered through all samples.
struct GroupStatsTask {
  const void* x;
  DType dtype;
  int64_t rows_a_sample, rows_a_piece, pieces_a_sample, channels, groups;
  double* stats;  ///< [pieces, groups, 2]
  float* sums;    ///< [2 * channels], the worker's own
};

/// out = act((x - mean) * scale + shift + residual). A range is of rows.
struct AffineTask {
  const void* x;
  void* out;
  const void* residual;       ///< as x
  const float *mean, *scale;  ///< [samples, channels]
  const float* shift;         ///< [channels]
  int64_t rows_a_sample, channels;
  DType x_dtype, out_dtype;
  Activation activation;
};

/// sum_i coefficients[i] * terms[i]. A range is of elements.
struct CombineTask {
  const void* terms[kMaxTerms];
  DType dtypes[kMaxTerms];
  const float* coefficients;
  int count;
  void* out;
  DType out_dtype;
};

/// Elements of core/random.h; a range is of groups of four, counted from `first`.
struct RandnTask {
  uint64_t seed, stream, first;
  int64_t elements;  ///< of the sample; the last group may be cut
  void* out;
  DType dtype;
};

/// x as another type: f32, bf16 and f8e4m3 to each other, i32 to f32 and back. A range is of elements.
struct CastTask {
  const void* x;
  void* out;
  DType from, to;
};

/// act(x). A range is of elements.
struct ActivateTask {
  const void* x;
  void* out;
  DType dtype;
  Activation activation;
};

/// x [2 * channels] -> first half * silu(second half). A range is of rows.
struct GluTask {
  const void* x;
  void* out;
  DType dtype;
  int64_t channels;
};

/// u8 to f32 or bf16 (`from_rgb8`), or back (`to_rgb8`). A range is of elements.
struct Rgb8Task {
  const void* x;
  void* out;
  DType dtype;  ///< the one that is not u8
};

/// Values [rows, channels] f8e4m3 with a scale a group, from or to `dtype`. A range is of rows.
struct Fp8Task {
  const void* x;
  void* out;
  float* scales;  ///< [rows, ceil(channels / group)], written by quantize, read by dequantize
  int64_t group;  ///< channels with one scale: kScaleGroup, or all of a row
  DType dtype;
  int64_t channels;
};

/// Stores 0 to `finite` when the range has an infinity or NaN. A range is of elements.
struct AllFiniteTask {
  const void* x;
  DType dtype;
  int32_t* finite;
};

/// means[row] = mean over channels of |a - b|. A range is of rows.
struct DifferenceTask {
  const void *a, *b;
  DType dtype;
  int64_t channels;
  float* means;
};

/// One of the two inputs of a shuffle: x or its shortcut.
struct ShuffleInput {
  const void* data;
  int64_t channels;
};

/// Floats that the buffers of a shuffle are longer than their contents: whole vectors are written and read.
inline constexpr int64_t kShufflePadding = 8 * 16;

/// unshuffle3d; a range is of result pixels. Or shuffle3d; a range is of input pixels.
struct ShuffleTask {
  ShuffleInput inputs[2];  ///< the second has null data when there is no shortcut
  void* out;
  DType dtype;
  int64_t frames, height, width;  ///< of x
  int64_t time, space, channels;  ///< channels of the result
  int64_t edge;                   ///< repeat_first or drop_first
  float* full;                    ///< the worker's own, as long as the most channels between the two shapes
  float* row;                     ///< the worker's own [channels]
  int64_t* offsets;               ///< the worker's own [time * space^2]
};

#define FSV_FOR_EACH_ROW_KERNEL(X)       \
  X(layer_memory, LayerMemoryTask)       \
  X(norm, NormTask)                      \
  X(qk_norm_rope, RopeTask)              \
  X(group_stats, GroupStatsTask)         \
  X(affine, AffineTask)                  \
  X(combine, CombineTask)                \
  X(randn, RandnTask)                    \
  X(cast, CastTask)                      \
  X(activate, ActivateTask)              \
  X(glu, GluTask)                        \
  X(from_rgb8, Rgb8Task)                 \
  X(to_rgb8, Rgb8Task)                   \
  X(quantize_fp8, Fp8Task)               \
  X(dequantize_fp8, Fp8Task)             \
  X(all_finite, AllFiniteTask)           \
  X(mean_abs_difference, DifferenceTask) \
  X(unshuffle, ShuffleTask)              \
  X(shuffle, ShuffleTask)

/// Every kernel is void(task, begin, end).
struct RowKernels {
#define FSV_POINTER(name, Task) void (*name)(const Task& task, int64_t begin, int64_t end);
  FSV_FOR_EACH_ROW_KERNEL(FSV_POINTER)
#undef FSV_POINTER
};

}  // namespace fsv::cpu
