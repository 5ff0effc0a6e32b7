// What all attention kernels share: the size of the problem, the order in which blocks of queries are taken,
// and the bias. Tensors are [B, N, H, D], contiguous.
#pragma once

#include "cuda/kernels/softmax.cuh"

namespace fsv::cuda::kernels {

struct AttentionProblem {
  int64_t queries = 0, keys = 0;  ///< of a sample
  int64_t query_tiles = 0;        ///< of one head of one sample
  int64_t tiles = 0;              ///< of all of them
  int64_t heads = 0;
  int dim = 0;                           ///< of a head
  float scale = 1;                       ///< of q k^T
  const float* bias = nullptr;           ///< [H, Nq, Nk]
  const int32_t* key_lengths = nullptr;  ///< [B]
};

/// A tile of queries. Those of one head stand next to each other, so that blocks which run at the same time
/// find each other's keys in L2. Int is int where registers are short.
template <class Int>
struct AttentionTile {
  Int first_query, head, sample;

  FSV_DEVICE AttentionTile(const AttentionProblem& problem, Int index, int queries) {
    const Int tiles = static_cast<Int>(problem.query_tiles), heads = static_cast<Int>(problem.heads);
    const Int row = index / tiles;
    first_query = (index - row * tiles) * queries;
    sample = row / heads;
    head = row - sample * heads;
  }
};

FSV_DEVICE int64_t key_length(const AttentionProblem& problem, int64_t sample) {
  if (!problem.key_lengths) return problem.keys;
  const int64_t length = ptx::ldg(problem.key_lengths + sample);
  return length < 0 ? 0 : length < problem.keys ? length : problem.keys;
}

/// s = scale s + bias in units of log2, for 16 rows of scores from query `row` and key `column` on. The
/// softmax's own scale is 1 afterwards.
template <int kScores>
FSV_DEVICE void scale_and_bias(float (&s)[kScores], const AttentionProblem& problem, int64_t head,
                               int64_t row, int64_t column) {
  const float scale = problem.scale * kLog2E;
  row += ptx::lane_id() / 4;
  column += ptx::lane_id() % 4 * 2;
  FSV_UNROLL
  for (int r = 0; r < 2; r++, row += 8) {
    const bool biased = problem.bias && row < problem.queries;
    const float* bias = problem.bias + (head * problem.queries + row) * problem.keys + column;
    const int64_t left = biased ? problem.keys - column : 0;
    FSV_UNROLL
    for (int j = 0; j < kScores; j += 4) {
      FSV_UNROLL
      for (int e = 0; e < 2; e++) {
        const float add = 2 * j + e < left ? ptx::ldg(bias + 2 * j + e) : 0.0f;
        s[j + 2 * r + e] = fmaf(s[j + 2 * r + e], scale, add * kLog2E);
      }
    }
  }
}

}  // namespace fsv::cuda::kernels
