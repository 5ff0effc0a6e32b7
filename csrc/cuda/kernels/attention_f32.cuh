// Attention with f32 arithmetic throughout: the mode in which results are compared with an oracle, and the
// way for whatever the tensor-core kernels cannot take (heads of any size). A block computes 32 queries by 64
// columns of the result; a head of more columns computes its scores once for each 64 of them. Key blocks are
// taken in order, and the softmax runs along as in softmax.cuh.
#pragma once

#include "core/dtype.h"
#include "cuda/kernels/attention.cuh"

namespace fsv::cuda::kernels {

struct AttentionF32 {
  static constexpr int kThreads = 128;
  static constexpr int kQueries = 32, kKeys = 64, kColumns = 64;
  // A thread has 4 queries by 4 keys, 16 apart, of the scores, and by 4 columns of the result; 16 threads
  // share their queries.
  static constexpr int kGroup = 16;
  // Rows in shared memory are 16 bytes longer than their 64 floats, which spreads them over the banks.
  static constexpr uint32_t kRowBytes = (64 + 4) * 4;
  static constexpr uint32_t kSharedBytes = (2 * kQueries + kKeys) * kRowBytes;
};

FSV_DEVICE float group_max(float x) {
  FSV_UNROLL
  for (int m = 1; m < AttentionF32::kGroup; m *= 2) x = fmaxf(x, ptx::shfl_xor(x, m));
  return x;
}

FSV_DEVICE float group_sum(float x) {
  FSV_UNROLL
  for (int m = 1; m < AttentionF32::kGroup; m *= 2) x += ptx::shfl_xor(x, m);
  return x;
}

/// `count` rows by 64 columns of a head to shared memory; zeros from row `valid` and column `dim` on.
template <class T>
FSV_DEVICE void load_floats(uint32_t to, const T* rows, int64_t stride, int count, int64_t valid, int column,
                            int dim) {
  for (int i = threadIdx.x; i < count * 64; i += AttentionF32::kThreads) {
    const int row = i / 64, c = column + i % 64;
    const float x = row < valid && c < dim ? to_float(ptx::ldg(rows + row * stride + c)) : 0.0f;
    ptx::sts(to + row * AttentionF32::kRowBytes + i % 64 * 4, x);
  }
}

/// sums[i] += four products: x . (y[0], y[1], y[2], y[3])
FSV_DEVICE void add_products(float& sum, float4 x, float y0, float y1, float y2, float y3) {
  sum = fmaf(x.x, y0, sum);
  sum = fmaf(x.y, y1, sum);
  sum = fmaf(x.z, y2, sum);
  sum = fmaf(x.w, y3, sum);
}

template <class T>
FSV_KERNEL void FSV_BOUNDS(AttentionF32::kThreads, 3)
    attention_f32(const T* queries, const T* keys, const T* values, T* out, AttentionProblem problem) {
  using Tile = AttentionF32;
  constexpr uint32_t kRow = Tile::kRowBytes;
  const uint32_t query_rows = ptx::smem_base(), probability_rows = query_rows + Tile::kQueries * kRow,
                 key_rows = probability_rows + Tile::kQueries * kRow, value_rows = key_rows;
  const int first = threadIdx.x / Tile::kGroup * 4, group = threadIdx.x % Tile::kGroup;
  const int dim = problem.dim, column_tiles = (dim + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t stride = problem.heads * dim;

  for (int64_t index = blockIdx.x; index < problem.tiles * column_tiles; index += gridDim.x) {
    const AttentionTile<int64_t> tile(problem, index / column_tiles, Tile::kQueries);
    const int column = static_cast<int>(index % column_tiles) * Tile::kColumns;
    const int64_t length = key_length(problem, tile.sample), left = problem.queries - tile.first_query;
    const int64_t query_offset =
        (tile.sample * problem.queries + tile.first_query) * stride + tile.head * dim;
    const int64_t key_offset = tile.sample * problem.keys * stride + tile.head * dim;
    float o[4][4] = {}, highest[4], total[4] = {};
    for (float& h : highest) h = -INFINITY;

    for (int64_t key = 0; key < length; key += Tile::kKeys) {
      float s[4][4] = {};
      for (int c = 0; c < dim; c += 64) {
        ptx::syncthreads();  // nobody reads what was here any more
        // Queries of a head of 64 columns are still here.
        if (dim > 64 || key == 0)
          load_floats(query_rows, queries + query_offset, stride, Tile::kQueries, left, c, dim);
        load_floats(key_rows, keys + key_offset + key * stride, stride, Tile::kKeys, length - key, c, dim);
        ptx::syncthreads();
        for (int d = 0; d < 64 * 4; d += 16) {
          float4 k[4];
          FSV_UNROLL
          for (int j = 0; j < 4; j++) k[j] = ptx::lds<float4>(key_rows + (group + 16 * j) * kRow + d);
          FSV_UNROLL
          for (int i = 0; i < 4; i++) {
            const float4 q = ptx::lds<float4>(query_rows + (first + i) * kRow + d);
            FSV_UNROLL
            for (int j = 0; j < 4; j++) add_products(s[i][j], q, k[j].x, k[j].y, k[j].z, k[j].w);
          }
        }
      }

      FSV_UNROLL
      for (int i = 0; i < 4; i++) {
        const int64_t row = tile.first_query + first + i;
        const bool biased = problem.bias && row < problem.queries;
        const float* bias = problem.bias + (tile.head * problem.queries + row) * problem.keys + key + group;
        float top = highest[i], sum = 0;
        FSV_UNROLL
        for (int j = 0; j < 4; j++) {
          const bool visible = key + group + 16 * j < length;
          s[i][j] =
              visible ? fmaf(s[i][j], problem.scale, biased ? ptx::ldg(bias + 16 * j) : 0.0f) : -INFINITY;
          top = fmaxf(top, s[i][j]);
        }
        top = group_max(top);
        const float shift = top == -INFINITY ? 0.0f : top, keep = expf(highest[i] - shift);
        highest[i] = top;
        FSV_UNROLL
        for (int j = 0; j < 4; j++) {
          s[i][j] = expf(s[i][j] - shift);
          sum += s[i][j];
          o[i][j] *= keep;
          ptx::sts(probability_rows + (first + i) * kRow + (group + 16 * j) * 4, s[i][j]);
        }
        total[i] = fmaf(total[i], keep, group_sum(sum));
      }
      ptx::syncthreads();  // nobody reads the keys any more
      load_floats(value_rows, values + key_offset + key * stride, stride, Tile::kKeys, length - key, column,
                  dim);
      ptx::syncthreads();
      for (int n = 0; n < Tile::kKeys; n += 4) {
        float4 v[4];
        FSV_UNROLL
        for (int j = 0; j < 4; j++) v[j] = ptx::lds<float4>(value_rows + (n + j) * kRow + group * 16);
        FSV_UNROLL
        for (int i = 0; i < 4; i++) {
          const float4 p = ptx::lds<float4>(probability_rows + (first + i) * kRow + n * 4);
          add_products(o[i][0], p, v[0].x, v[1].x, v[2].x, v[3].x);
          add_products(o[i][1], p, v[0].y, v[1].y, v[2].y, v[3].y);
          add_products(o[i][2], p, v[0].z, v[1].z, v[2].z, v[3].z);
          add_products(o[i][3], p, v[0].w, v[1].w, v[2].w, v[3].w);
        }
      }
    }

    FSV_UNROLL
    for (int i = 0; i < 4; i++) {
      const float share = total[i] == 0.0f ? 0.0f : 1.0f / total[i];
      FSV_UNROLL
      for (int j = 0; j < 4; j++) {
        const int c = column + group * 4 + j;
        if (first + i < left && c < dim)
          ptx::stg(out + query_offset + (first + i) * stride + c, from_float<T>(o[i][j] * share));
      }
    }
  }
}

}  // namespace fsv::cuda::kernels
