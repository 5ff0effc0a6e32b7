// The matrix core of the CPU backend: rows of A times packed panels of W, with everything that follows (bias,
// activation, gate, residual, rounding) done on a tile that is still in cache. `linear` calls it on flattened
// tokens, `conv3d` on output pixels whose rows point straight into a padded input (implicit GEMM),
// `attention` uses the same micro-kernels.
//
// Packed weights. W [N, K] is cut into panels of 32 output columns, the last one filled up with zeros. A
// panel is
//   f32   [K][32]
//   bf16  [K2 / 2][32][2], K2 = K rounded up to 32 with zeros
// so that bf16 has two neighbours of k side by side, which is what AMX tiles and AVX512-BF16 want and what
// the others widen with a shift and a mask. fp8 weights become bf16 panels, their row scales multiplied in.
// The format is the same for every instruction set. Panels of several K segments (the taps of a convolution)
// stand one segment after the other inside their panel: [N / 32][segments][panel of the segment].
//
// Every output element is summed in the order of k by the same instructions whatever the block it falls in,
// so a row's bits depend on nothing but the row.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/ops.h"

namespace fsv::cpu {

inline constexpr int64_t kPanelCols = 32;
inline constexpr int64_t kOneRun = INT64_MAX;  ///< rows of a run where all rows are one

/// Number of panels of `cols` output columns.
static inline int64_t panel_count(int64_t cols) { return (cols + kPanelCols - 1) / kPanelCols; }

/// Bytes of one segment of `k` elements in one panel of `dtype` (f32 or bf16); a multiple of 64.
static inline int64_t segment_bytes(DType dtype, int64_t k) {
  if (dtype == DType::f32) return kPanelCols * k * 4;
  return kPanelCols * ((k + 31) / 32 * 32) * 2;
}

/// What is done to a finished sum: out = residual + gate * act(sum + bias + row_scale * row_bias), in f32,
/// rounded once. Pointers that are null stand for "not there". Element (row, col) of the task is at
/// place(row)
/// * stride + col.
struct Epilogue {
  const float* bias = nullptr;      ///< [cols]
  const float* row_bias = nullptr;  ///< of place(row), e.g. the noise of a pixel
  float row_scale = 0;
  Activation activation = Activation::none;
  const void* gate = nullptr;  ///< row (gate_row + row) / gate_rows, gate_stride elements apart
  DType gate_dtype = DType::f32;
  int64_t gate_stride = 0, gate_row = 0, gate_rows = 1;
  const void* residual = nullptr;  ///< as out
  void* out = nullptr;
  int64_t out_stride = 0;  ///< elements
  DType out_dtype = DType::f32;
  int64_t run = kOneRun, run_places = 0;  ///< a run of rows, and how far apart the places of two runs begin

  int64_t place(int64_t row) const { return row < run ? row : row / run * run_places + row % run; }
};

/// out [rows, cols] = epilogue(A [rows, segments * k] W^T). Rows come in runs (the pixels of one row of an
/// image): row r of segment s starts at a + (r / run) * run_stride + (r % run) * row_stride +
/// segment_offsets[s] (bytes) and is k consecutive elements; nothing outside of these is read. k = 0 leaves
/// sums of 0. The runs are those of the epilogue.
struct GemmTask {
  const void* a = nullptr;
  int64_t row_stride = 0, run_stride = 0;  ///< bytes
  int64_t rows = 0;
  int64_t k = 0;
  int64_t segments = 1;
  const int64_t* segment_offsets = nullptr;  ///< null: one segment at 0
  /// Where a segment's part of the one panel (cols <= 32) stands, bytes from `panels`; null: one behind the
  /// other.
  const int64_t* panel_offsets = nullptr;
  const void* panels = nullptr;  ///< 64-byte aligned, panel_count(cols) of segments * segment_bytes(dtype, k)
  int64_t cols = 0;
  /// A long k in parts: sums stay in `partial`, [panel_count(cols)][rows][32], from the task that `begins` to
  /// the one that `ends`, which applies the epilogue. Null: k is whole.
  float* partial = nullptr;
  bool begins = true, ends = true;
  int64_t panel_stride = 0;  ///< bytes, of the whole k; 0: that of segments and k
  /// What the caller will read next, which comes into L2 meanwhile.
  const char* ahead = nullptr;
  int64_t ahead_bytes = 0;
  Epilogue epilogue;
};

/// One segment of packed panels from W [cols, k] row-major (row_stride elements apart): f32 stays f32, bf16
/// stays bf16, f8e4m3 becomes bf16, each row multiplied by its element of `scales` [cols]. Panel p goes to
/// panels + p * panel_stride.
struct PackTask {
  const void* weight = nullptr;
  DType dtype = DType::f32;
  int64_t row_stride = 0;
  const float* scales = nullptr;
  int64_t cols = 0, k = 0;
  void* panels = nullptr;
  int64_t panel_stride = 0;  ///< bytes
};

/// Rows of f32 or bf16 copied (or widened, bf16 -> f32) to another place and stride. Rows of f8e4m3 are
/// multiplied by their scales and rounded to bf16, and widened from there.
struct CopyRowsTask {
  const void* from = nullptr;
  DType from_dtype = DType::f32, to_dtype = DType::f32;
  const float* scales = nullptr;  ///< of f8e4m3: [rows] or [rows, scale_groups]
  int64_t scale_groups = 0;
  int64_t from_stride = 0, to_stride = 0;  ///< bytes
  int64_t rows = 0, k = 0;
  void* to = nullptr;
};

struct GemmKernels {
  /// The element type that A must have for bf16 weights: bf16 where the machine multiplies bf16, f32
  /// elsewhere (widened once by the caller, not again for every panel). Products of bf16 numbers are exact in
  /// f32 either way.
  DType bf16_operand;
  /// Rows that the micro-kernel takes at a time; blocks of a multiple of it waste nothing.
  int64_t row_block_f32, row_block_bf16;
  /// Elements of k by which bf16 panels are read: a segment may begin at a multiple of them.
  int64_t depth_bf16;
  /// Pixels of a frame from which on it pays to cut a convolution's windows at its sides, instead of copying
  /// the frame with borders: strips along the sides fill blocks badly, tiles worse than registers.
  int64_t few_cut_pixels;
  /// Elements of a long k that are multiplied at a time, or 0 for all of them: where products are so fast
  /// that rows of x few enough for the cache would be too few for what W costs to read.
  int64_t k_part_bf16;
  void (*multiply_f32)(const GemmTask&);
  void (*multiply_bf16)(const GemmTask&);
  void (*pack)(const PackTask&);
  void (*copy_rows)(const CopyRowsTask&);
};

}  // namespace fsv::cpu
