// Softmax that runs along the keys, block by block (Milakov and Gimelshein, arXiv 1805.02867), on scores that
// lie in registers as wgmma m64nN and mma m16n8 leave them: of every 8 columns a thread holds two neighbours
// of row `lane / 4` in s[4j], s[4j + 1] and the same two columns of row `lane / 4 + 8` in s[4j + 2], s[4j +
// 3]; the four lanes of a quad share their two rows.
#pragma once

#include <cmath>

#include "cuda/kernels/quad.cuh"

namespace fsv::cuda::kernels {

inline constexpr float kLog2E = 1.4426950408889634f;

struct RowSoftmax {
  float highest[2] = {-INFINITY, -INFINITY};  ///< score so far
  float total[2] = {0, 0};                    ///< of 2^(scale (s - highest)), over this thread's columns only

  /// Scores become probabilities, not yet divided: s = 2^(scale (s - highest)), scale > 0. What earlier
  /// blocks have given is to be multiplied by keep.
  template <int kScores>
  FSV_DEVICE void step(float (&s)[kScores], float scale, float (&keep)[2]) {
    FSV_UNROLL
    for (int r = 0; r < 2; r++) {
      float top = highest[r];
      FSV_UNROLL
      for (int j = 2 * r; j < kScores; j += 4) top = fmaxf(top, fmaxf(s[j], s[j + 1]));
      top = quad_max(top);
      // A row that has seen nothing but -infinity must not compute -infinity - -infinity.
      const float shift = top == -INFINITY ? 0.0f : top * scale;
      keep[r] = ptx::ex2(highest[r] * scale - shift);
      highest[r] = top;
      float sum = 0;
      FSV_UNROLL
      for (int j = 2 * r; j < kScores; j += 4) {
        s[j] = ptx::ex2(fmaf(s[j], scale, -shift));
        s[j + 1] = ptx::ex2(fmaf(s[j + 1], scale, -shift));
        sum += s[j] + s[j + 1];
      }
      total[r] = fmaf(total[r], keep[r], sum);
    }
  }

  /// What to multiply the rows of the result by; zeros for a row that has attended to nothing.
  FSV_DEVICE void finish(float (&share)[2]) const {
    FSV_UNROLL
    for (int r = 0; r < 2; r++) {
      const float all = quad_sum(total[r]);
      share[r] = all == 0.0f ? 0.0f : 1.0f / all;
    }
  }
};

/// Columns from `valid` on become -infinity.
template <int kScores>
FSV_DEVICE void mask_columns(float (&s)[kScores], int valid) {
  const int column = ptx::lane_id() % 4 * 2;
  FSV_UNROLL
  for (int j = 0; j < kScores; j += 4) {
    if (2 * j + column >= valid) s[j] = s[j + 2] = -INFINITY;
    if (2 * j + column + 1 >= valid) s[j + 1] = s[j + 3] = -INFINITY;
  }
}

/// The rows of an accumulator, each times its factor.
template <int kValues>
FSV_DEVICE void scale_rows(float (&o)[kValues], const float (&factor)[2]) {
  FSV_UNROLL
  for (int j = 0; j < kValues; j += 4) {
    o[j] *= factor[0];
    o[j + 1] *= factor[0];
    o[j + 2] *= factor[1];
    o[j + 3] *= factor[1];
  }
}

/// Sixteen columns of scores as the A operand of a product with as many rows: for 16-bit operands the
/// accumulator's layout is already the right one.
template <int kScores>
FSV_DEVICE void pack_columns(uint32_t (&a)[4], const float (&s)[kScores], int i) {
  FSV_UNROLL
  for (int r = 0; r < 4; r++) a[r] = ptx::pack_bf16(s[8 * i + 2 * r], s[8 * i + 2 * r + 1]);
}

}  // namespace fsv::cuda::kernels
