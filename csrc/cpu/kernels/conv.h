// The kernels of conv3d and linear_attention that are not a matrix product: laying a row of pixels out in a
// worker's scratch, and the two convolutions for which a product with panels of 32 output channels would be
// waste. Everything else of a convolution goes through kernels/gemm.h. Who calls what with which layout
// stands in cpu/conv3d.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/kernels/gemm.h"
#include "ops/ops.h"

namespace fsv::cpu {

/// One row of the padded input: `left` pixels of zeros, `pixels` pixels of the source, `right` pixels of
/// zeros. A pixel of the source is `channels` elements in each of `rows` rows (the kernel's rows, when they
/// are folded into the channels; null rows are zeros), the next one pixel_stride elements behind.
struct RowTask {
  const void* const* from = nullptr;
  int64_t rows = 1;
  DType from_dtype = DType::f32, to_dtype = DType::f32;  ///< alike, or bf16 -> f32
  int64_t channels = 0, pixel_stride = 0;
  int64_t left = 0, pixels = 0, right = 0;
  void* to = nullptr;
  int64_t to_stride = 0;  ///< pixel to pixel, elements >= rows * channels; what is between them becomes zeros
};

/// The same row (of one source row) with pixels side by side: to[unit][phase][pixel / stride], phase = pixel
/// % stride. A unit is four bytes: a channel of f32, or two of bf16. As f32, bf16 channels have a plane each,
/// an odd last one a neighbour of zeros.
struct PlaneTask {
  RowTask row;         ///< its `to` and `to_stride` are not read
  int64_t stride = 1;  ///< of the convolution
  int64_t pitch = 0;   ///< units from phase to phase
  void* to = nullptr;
};

/// The rows of input that an output row is the sum over: row s begins offsets[s] bytes behind `input`, its
/// weights weight_offsets[s] behind `weight`.
struct Window {
  const char* input = nullptr;
  const int64_t* offsets = nullptr;
  const char* weight = nullptr;
  const int64_t* weight_offsets = nullptr;
  int64_t segments = 0;
  int64_t kw = 1, stride = 1;  ///< across
};

/// One output row of a convolution whose groups have one channel in and one out.
/// sum[p][c] = sum over segments and i < kw of row[(p * stride + i) * channels + c] * weight[i *
/// weight_stride + c], all f32.
struct DepthwiseTask {
  Window window;
  int64_t channels = 0;  ///< a multiple of 16, at most kDepthwiseChannels
  int64_t weight_stride = 0;
  int64_t pixels = 0;
  int64_t cols = 0;  ///< channels that are written
  Epilogue epilogue;
};
inline constexpr int64_t kDepthwiseChannels = 64;

/// One output row of a convolution with at most kNarrowOutputs output channels: the vectors run over pixels.
struct NarrowTask {
  Window window;      ///< rows as PlaneTask leaves them; weights [kw][units][outputs], four bytes each
  int64_t units = 0;  ///< of four bytes in `weights`
  int64_t pitch = 0;  ///< as in PlaneTask; reads up to 16 * 8 units beyond the last pixel
  int64_t outputs = 0, pixels = 0;
  Epilogue epilogue;
};
inline constexpr int64_t kNarrowOutputs = 4;
inline constexpr int64_t kNarrowSlack =
    128;  ///< pixels that a row of planes must be longer than its last pixel

/// One head of one frame: q, k, v of a token side by side, token_stride elements to the next token.
struct LinearAttentionTask {
  const void* qkv = nullptr;
  void* out = nullptr;
  DType dtype = DType::f32;
  int64_t tokens = 0, head_dim = 0, token_stride = 0, out_stride = 0;  ///< elements
  float eps = 0;
  float* scratch = nullptr;  ///< linear_attention_scratch(head_dim) floats, 64-byte aligned
};
inline constexpr int64_t kLinearAttentionTokens = 64;  ///< widened at a time

/// Padded head size: a multiple of every vector.
static inline int64_t linear_attention_width(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
static inline int64_t linear_attention_scratch(int64_t head_dim) {
  return linear_attention_width(head_dim) * (head_dim + 1 + 3 * kLinearAttentionTokens);
}

struct ConvKernels {
  void (*lay_row)(const RowTask&);
  void (*lay_planes)(const PlaneTask&);
  void (*depthwise)(const DepthwiseTask&);
  void (*narrow_f32)(const NarrowTask&);
  void (*narrow_bf16)(const NarrowTask&);
  void (*linear_attention)(const LinearAttentionTask&);
};

}  // namespace fsv::cpu
