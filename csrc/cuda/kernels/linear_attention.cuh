// ReLU linear attention, f32 arithmetic, in two passes: sums of relu(k)^T [v 1] over the tokens of a frame,
// and relu(q) times those sums. A frame's tokens are cut into chunks that are summed by different blocks and
// added up, always in the same order, by whoever reads the sums; so bits depend on nothing but the frame,
// while a single large frame still fills the card. Work is in tiles of 32 x 32 of the sums; heads of any
// size.
#pragma once

#include "core/dtype.h"
#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

struct LinearAttentionProblem {
  int64_t frames = 0, tokens = 0;
  int64_t chunk = 0;  ///< tokens of a chunk
  int64_t heads = 0;
  int dim = 0;
  float eps = 0;

  FSV_HOST_DEVICE int64_t chunks() const { return (tokens + chunk - 1) / chunk; }
  /// Of a chunk of a head: relu(k)^T v, then sums of relu(k).
  FSV_HOST_DEVICE int64_t sums() const { return int64_t{dim} * (dim + 1); }
  FSV_HOST_DEVICE int tiles() const { return (dim + 31) / 32; }
};

struct LinearAttentionSums {
  static constexpr int kGroups = 4;  ///< of threads, which take a tile's tokens in turn
  static constexpr int kThreads = 64 * kGroups;
  static constexpr int kTokens = 64;     ///< in shared memory: rows of 32 of k and 32 of v
  static constexpr int kTile = 32 * 33;  ///< sums of a tile, those of relu(k) in the last row
  static constexpr uint32_t kSharedBytes = kGroups * kTile * 4;
  static_assert(kSharedBytes >= kTokens * 64 * 4);
};

struct LinearAttentionApply {
  static constexpr int kThreads = 256;
  static constexpr int kTokens = 128;  ///< in shared memory at a time; a thread has 4 of them by 4 columns
  static constexpr int kBlockTokens = 4 * kTokens;
  static constexpr uint32_t kRowBytes =
      (32 + 4) * 4;  ///< of a token, so that four of them lie in different banks
  static constexpr uint32_t kSums = kTokens * kRowBytes;
  static constexpr uint32_t kSharedBytes = kSums + LinearAttentionSums::kTile * 4;
};

/// `count` rows of 32 elements, those from `valid` and `columns` on zero, to rows of to_stride bytes.
template <int kThreads, class T>
FSV_DEVICE void load_tokens(uint32_t to, uint32_t to_stride, const T* from, int64_t stride, int count,
                            int64_t valid, int columns, bool relu) {
  FSV_UNROLL
  for (int i = threadIdx.x; i < count * 32; i += kThreads) {
    const int row = i / 32, column = i % 32;
    const float x = row < valid && column < columns ? to_float(ptx::ldg(from + row * stride + column)) : 0.0f;
    ptx::sts(to + row * to_stride + column * 4, relu ? fmaxf(x, 0.0f) : x);
  }
}

FSV_DEVICE void add_scaled(float (&sum)[4], float a, float4 x) {
  sum[0] = fmaf(a, x.x, sum[0]);
  sum[1] = fmaf(a, x.y, sum[1]);
  sum[2] = fmaf(a, x.z, sum[2]);
  sum[3] = fmaf(a, x.w, sum[3]);
}

/// sums [frames, heads, chunks, dim * (dim + 1)] of qkv [frames, tokens, heads, 3, dim].
template <class T>
FSV_KERNEL void FSV_BOUNDS(LinearAttentionSums::kThreads, 4)
    linear_attention_sums(const T* qkv, float* sums, LinearAttentionProblem problem) {
  using Tile = LinearAttentionSums;
  const uint32_t keys = ptx::smem_base(), values = keys + 32 * 4;
  constexpr uint32_t kRow = 64 * 4;
  const int group = threadIdx.x / 64, row = threadIdx.x % 64 / 8 * 4, column = threadIdx.x % 8 * 4;
  const int dim = problem.dim, tiles = problem.tiles();
  const int64_t stride = 3 * problem.heads * dim, chunks = problem.chunks();
  const int64_t work = problem.frames * problem.heads * chunks * tiles * tiles;
  for (int64_t index = blockIdx.x; index < work; index += gridDim.x) {
    const int first_column = static_cast<int>(index % tiles) * 32;
    const int first_row = static_cast<int>(index / tiles % tiles) * 32;
    const int64_t part = index / tiles / tiles, chunk = part % chunks, head = part / chunks;
    const int64_t begin = chunk * problem.chunk,
                  end = begin + problem.chunk < problem.tokens ? begin + problem.chunk : problem.tokens;
    const T* from = qkv + head / problem.heads * problem.tokens * stride + head % problem.heads * 3 * dim;

    float products[4][4] = {}, key_sums[4] = {};
    for (int64_t token = begin; token < end; token += Tile::kTokens) {
      const T* rows = from + token * stride;
      ptx::syncthreads();  // nobody reads what was here any more
      load_tokens<Tile::kThreads>(keys, kRow, rows + dim + first_row, stride, Tile::kTokens, end - token,
                                  dim - first_row, true);
      load_tokens<Tile::kThreads>(values, kRow, rows + 2 * dim + first_column, stride, Tile::kTokens,
                                  end - token, dim - first_column, false);
      ptx::syncthreads();
      FSV_UNROLL
      for (int n = 0; n < Tile::kTokens / Tile::kGroups; n++) {
        const uint32_t at = (n * Tile::kGroups + group) * kRow;
        const float4 k = ptx::lds<float4>(keys + at + row * 4),
                     v = ptx::lds<float4>(values + at + column * 4);
        add_scaled(products[0], k.x, v);
        add_scaled(products[1], k.y, v);
        add_scaled(products[2], k.z, v);
        add_scaled(products[3], k.w, v);
        add_scaled(key_sums, 1.0f, k);
      }
    }

    // The groups' sums, one behind the other, then added in order.
    ptx::syncthreads();
    const uint32_t own = keys + group * Tile::kTile * 4;
    FSV_UNROLL
    for (int i = 0; i < 4; i++) {
      ptx::sts(own + ((row + i) * 32 + column) * 4,
               float4{products[i][0], products[i][1], products[i][2], products[i][3]});
      if (column == 0) ptx::sts(own + (32 * 32 + row + i) * 4, key_sums[i]);
    }
    ptx::syncthreads();
    float* to = sums + part * problem.sums();
    for (int i = threadIdx.x; i < Tile::kTile; i += Tile::kThreads) {
      float sum = 0;
      FSV_UNROLL
      for (int g = 0; g < Tile::kGroups; g++) sum += ptx::lds<float>(keys + (g * Tile::kTile + i) * 4);
      const int r = i / 32, c = i % 32;
      if (r == 32) {
        if (first_column == 0 && first_row + c < dim) ptx::stg(to + int64_t{dim} * dim + first_row + c, sum);
      } else if (first_row + r < dim && first_column + c < dim) {
        ptx::stg(to + int64_t{first_row + r} * dim + first_column + c, sum);
      }
    }
  }
}

/// A tile of the sums of a head, and the sums of relu(k) that belong to its rows, over all chunks.
FSV_DEVICE void load_sums(uint32_t to, const float* sums, const LinearAttentionProblem& problem, int row,
                          int column) {
  const int dim = problem.dim;
  const int64_t chunks = problem.chunks();
  for (int i = threadIdx.x; i < LinearAttentionSums::kTile; i += LinearAttentionApply::kThreads) {
    const int r = i / 32, c = i % 32;
    const bool of_keys = r == 32, inside = of_keys ? row + c < dim : row + r < dim && column + c < dim;
    const float* from = sums + (of_keys ? int64_t{dim} * dim + row + c : int64_t{row + r} * dim + column + c);
    float sum = 0;
    for (int64_t chunk = 0; chunk < (inside ? chunks : 0); chunk++, from += problem.sums())
      sum += ptx::ldg(from);
    ptx::sts(to + i * 4, sum);
  }
}

/// out [frames, tokens, heads, dim].
template <class T>
FSV_KERNEL void FSV_BOUNDS(LinearAttentionApply::kThreads, 3)
    linear_attention_apply(const T* qkv, const float* sums, T* out, LinearAttentionProblem problem) {
  using Tile = LinearAttentionApply;
  const uint32_t queries = ptx::smem_base(), products = queries + Tile::kSums,
                 key_sums = products + 32 * 32 * 4;
  const int first = threadIdx.x / 8 * 4, column = threadIdx.x % 8 * 4;
  const int dim = problem.dim, tiles = problem.tiles();
  const int64_t channels = problem.heads * dim;
  const int64_t token_blocks = (problem.tokens + Tile::kBlockTokens - 1) / Tile::kBlockTokens;
  const int64_t work = problem.frames * problem.heads * token_blocks * tiles;
  for (int64_t index = blockIdx.x; index < work; index += gridDim.x) {
    const int first_column = static_cast<int>(index % tiles) * 32;
    const int64_t begin = index / tiles % token_blocks * Tile::kBlockTokens,
                  head = index / tiles / token_blocks;
    const int64_t frame = head / problem.heads, head_of_frame = head % problem.heads;
    const T* from = qkv + (frame * problem.tokens * problem.heads + head_of_frame) * 3 * dim;
    T* to = out + frame * problem.tokens * channels + head_of_frame * dim + first_column + column;
    const float* head_sums = sums + head * problem.chunks() * problem.sums();

    for (int64_t token = begin; token < begin + Tile::kBlockTokens && token < problem.tokens;
         token += Tile::kTokens) {
      float over[4][4] = {}, under[4] = {};
      for (int row = 0; row < dim; row += 32) {
        ptx::syncthreads();  // nobody reads what was here any more
        if (tiles > 1 || token == begin) load_sums(products, head_sums, problem, row, first_column);
        load_tokens<Tile::kThreads>(queries, Tile::kRowBytes, from + token * 3 * channels + row, 3 * channels,
                                    Tile::kTokens, problem.tokens - token, dim - row, true);
        ptx::syncthreads();
        for (int i = 0; i < 32; i += 4) {
          float4 s[4];
          FSV_UNROLL
          for (int e = 0; e < 4; e++) s[e] = ptx::lds<float4>(products + ((i + e) * 32 + column) * 4);
          const float4 k = ptx::lds<float4>(key_sums + i * 4);
          FSV_UNROLL
          for (int n = 0; n < 4; n++) {
            const float4 q = ptx::lds<float4>(queries + (first + n) * Tile::kRowBytes + i * 4);
            add_scaled(over[n], q.x, s[0]);
            add_scaled(over[n], q.y, s[1]);
            add_scaled(over[n], q.z, s[2]);
            add_scaled(over[n], q.w, s[3]);
            under[n] = fmaf(q.w, k.w, fmaf(q.z, k.z, fmaf(q.y, k.y, fmaf(q.x, k.x, under[n]))));
          }
        }
      }
      FSV_UNROLL
      for (int n = 0; n < 4; n++) {
        if (token + first + n >= problem.tokens) break;
        FSV_UNROLL
        for (int j = 0; j < 4; j++)
          if (first_column + column + j < dim)
            ptx::stg(to + (token + first + n) * channels + j,
                     from_float<T>(over[n][j] / (under[n] + problem.eps)));
      }
    }
  }
}

}  // namespace fsv::cuda::kernels
