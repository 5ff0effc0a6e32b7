// Attention with mma.sync and cp.async for every card from sm_80 on: bf16, heads of at most 256 whose rows
// are multiples of 16 bytes. FlashAttention-2's plan (arXiv 2307.08691): a warp has 16 or 32 queries to
// itself and walks along all keys, so that nothing is exchanged between warps. Keys and values have one place
// each: the values of a block arrive under its scores, the next block's keys under its softmax.
#pragma once

#include "core/dtype.h"
#include "cuda/kernels/attention.cuh"

namespace fsv::cuda::kernels {

template <int kHeadDim>
struct AttentionSm80 {
  static constexpr int kDim = kHeadDim;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  /// Blocks of 16 queries of a warp: two halve the reads of keys from shared memory, where their accumulators
  /// fit in registers.
  static constexpr int kBlocks = kDim <= 64 ? 2 : 1;
  static constexpr int kQueries = 16 * kBlocks * kWarps;
  static constexpr int kKeys = 64;
  static_assert(kDim % 64 == 0, "a head is panels of 64 columns");

  // As on Hopper: panels of 64 columns, rows of 128 bytes, swizzled so that eight rows of a matrix lie in
  // different banks.
  static constexpr uint32_t kQueryBytes = kQueries * kDim * 2, kKeyBytes = kKeys * kDim * 2;
  static constexpr uint32_t kSharedBytes = 1024 + kQueryBytes + 2 * kKeyBytes;
};

/// Shared address of a 16-byte chunk of a tile of `rows` rows.
FSV_DEVICE uint32_t chunk_address(uint32_t tile, int rows, int row, int chunk) {
  return ptx::swizzle(ptx::SW_128, tile + (chunk / 8 * rows + row) * 128 + chunk % 8 * 16);
}

/// Rows of a head to a tile of kRows; zeros from row `valid` and column `dim` on.
template <class Tile, int kRows>
FSV_DEVICE void load_rows(uint32_t tile, const Bf16* rows, int64_t stride, int valid, int dim) {
  constexpr int kChunks = Tile::kDim / 8, kStep = Tile::kThreads / kChunks;
  const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
  const uint32_t to = chunk_address(tile, kRows, row, chunk);
  const Bf16* from = rows + row * stride + chunk * 8;
  valid = chunk * 8 < dim ? valid - row : 0;
  FSV_UNROLL
  for (int r = 0; r < kRows; r += kStep, from += kStep * stride)
    ptx::cp_async16((to ^ (r % 8 * 16)) + r * 128, r < valid ? from : rows, r < valid);
  ptx::cp_async_commit();
}

/// From an address in the first chunks of a tile to `rows` further down and `chunks` further right, for bits
/// of the chunk that the address has not set. With constants, so that a whole operand needs few registers.
template <int kRows>
FSV_DEVICE uint32_t moved(uint32_t address, int rows, int chunks) {
  return (address ^ (chunks % 8 * 16)) + (chunks / 8 * kRows + rows) * 128;
}

/// Columns 16 n .. 16 n + 15 of an accumulator += a b, b as ldmatrix gives 16 columns of a reduction of 16.
template <int kValues>
FSV_DEVICE void multiply_16(float (&d)[kValues], int n, const uint32_t (&a)[4], const uint32_t (&b)[4]) {
  FSV_UNROLL
  for (int half = 0; half < 2; half++) {
    float(&columns)[4] = reinterpret_cast<float(&)[4]>(d[8 * n + 4 * half]);
    ptx::mma_m16n8k16_bf16(columns, a, {b[2 * half], b[2 * half + 1]});
  }
}

template <class Tile>
FSV_KERNEL void FSV_BOUNDS(Tile::kThreads, 2)
    attention_sm80(const Bf16* queries, const Bf16* keys, const Bf16* values, Bf16* out,
                   AttentionProblem problem) {
  const uint32_t query_tile = ptx::align_up(ptx::smem_base(), 1024),
                 key_tile = query_tile + Tile::kQueryBytes, value_tile = key_tile + Tile::kKeyBytes;
  const int lane = ptx::lane_id(), first_row = threadIdx.x / 32 * 16 * Tile::kBlocks;
  const uint32_t query_at = chunk_address(query_tile, Tile::kQueries, first_row + lane % 16, lane / 16),
                 key_at = chunk_address(key_tile, Tile::kKeys, lane / 16 * 8 + lane % 8, lane / 8 % 2),
                 value_at = chunk_address(value_tile, Tile::kKeys, lane % 16, lane / 16);
  const int dim = problem.dim;
  const int64_t stride = problem.heads * dim;
  // A negative scale would turn the order of the scores round, so then it is applied before the softmax.
  const bool prepare = problem.bias || problem.scale <= 0;
  const float scale = prepare ? 1.0f : problem.scale * kLog2E;

  for (int index = blockIdx.x; index < problem.tiles; index += gridDim.x) {
    const AttentionTile<int> tile(problem, index, Tile::kQueries);
    const int length = static_cast<int>(key_length(problem, tile.sample));
    const int left = static_cast<int>(problem.queries - tile.first_query);
    const int64_t query_offset =
        (tile.sample * problem.queries + tile.first_query) * stride + tile.head * dim;
    const int64_t key_offset = tile.sample * problem.keys * stride + tile.head * dim;

    float o[Tile::kBlocks][Tile::kDim / 2] = {};
    RowSoftmax softmax[Tile::kBlocks];
    load_rows<Tile, Tile::kQueries>(query_tile, queries + query_offset, stride, left, dim);
    load_rows<Tile, Tile::kKeys>(key_tile, keys + key_offset, stride, length, dim);
    for (int key = 0; key < length; key += Tile::kKeys) {
      ptx::cp_async_wait<0>();
      ptx::syncthreads();  // the keys are here, and nobody needs the previous values any more
      load_rows<Tile, Tile::kKeys>(value_tile, values + key_offset + key * stride, stride, length - key, dim);

      float s[Tile::kBlocks][Tile::kKeys / 2] = {};
      FSV_ROLLED  // unrolled, it needs more registers than there are on cards newer than Hopper
          for (int i = 0; i < Tile::kDim / 16; i++) {
        uint32_t q[Tile::kBlocks][4];
        FSV_UNROLL
        for (int m = 0; m < Tile::kBlocks; m++)
          ptx::ldmatrix_x4(q[m], moved<Tile::kQueries>(query_at, 16 * m, 2 * i));
        FSV_UNROLL
        for (int n = 0; n < Tile::kKeys / 16; n++) {
          uint32_t k[4];
          ptx::ldmatrix_x4(k, moved<Tile::kKeys>(key_at, 16 * n, 2 * i));
          FSV_UNROLL
          for (int m = 0; m < Tile::kBlocks; m++) multiply_16(s[m], n, q[m], k);
        }
      }
      ptx::cp_async_wait<0>();
      ptx::syncthreads();  // the values are here, and nobody needs these keys any more
      if (key + Tile::kKeys < length)
        load_rows<Tile, Tile::kKeys>(key_tile, keys + key_offset + (key + Tile::kKeys) * stride, stride,
                                     length - key - Tile::kKeys, dim);

      FSV_UNROLL
      for (int m = 0; m < Tile::kBlocks; m++) {
        float keep[2];
        if (prepare) scale_and_bias(s[m], problem, tile.head, tile.first_query + first_row + 16 * m, key);
        if (length - key < Tile::kKeys) mask_columns(s[m], length - key);
        softmax[m].step(s[m], scale, keep);
        scale_rows(o[m], keep);
      }
      FSV_UNROLL
      for (int i = 0; i < Tile::kKeys / 16; i++) {
        uint32_t p[Tile::kBlocks][4];
        FSV_UNROLL
        for (int m = 0; m < Tile::kBlocks; m++) pack_columns(p[m], s[m], i);
        FSV_UNROLL
        for (int n = 0; n < Tile::kDim / 16; n++) {
          uint32_t v[4];
          ptx::ldmatrix_x4_trans(v, moved<Tile::kKeys>(value_at, 16 * i, 2 * n));
          FSV_UNROLL
          for (int m = 0; m < Tile::kBlocks; m++) multiply_16(o[m], n, p[m], v);
        }
      }
    }

    // A warp's results go where its own queries were, to leave in whole chunks.
    ptx::cp_async_wait<0>();
    ptx::syncthreads();
    const uint32_t out_at = chunk_address(query_tile, Tile::kQueries, first_row + lane / 4, 0) + lane % 4 * 4;
    FSV_UNROLL
    for (int m = 0; m < Tile::kBlocks; m++) {
      float share[2];
      softmax[m].finish(share);
      scale_rows(o[m], share);
      FSV_UNROLL
      for (int j = 0; j < Tile::kDim / 8; j++) {
        ptx::sts(moved<Tile::kQueries>(out_at, 16 * m, j), ptx::pack_bf16(o[m][4 * j], o[m][4 * j + 1]));
        ptx::sts(moved<Tile::kQueries>(out_at, 16 * m + 8, j),
                 ptx::pack_bf16(o[m][4 * j + 2], o[m][4 * j + 3]));
      }
    }
    ptx::syncwarp();
    for (int i = lane; i < 16 * Tile::kBlocks * (Tile::kDim / 8); i += 32) {
      const int row = first_row + i / (Tile::kDim / 8), chunk = i % (Tile::kDim / 8);
      const uint4 result = ptx::lds<uint4>(chunk_address(query_tile, Tile::kQueries, row, chunk));
      if (row < left && chunk * 8 < dim)
        ptx::stg(reinterpret_cast<uint4*>(out + query_offset + row * stride + chunk * 8), result);
    }
    ptx::syncthreads();  // before the next tile's queries arrive
  }
}

}  // namespace fsv::cuda::kernels
