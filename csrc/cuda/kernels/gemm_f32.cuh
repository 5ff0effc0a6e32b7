// GEMM in f32 on the CUDA cores, y = epilogue(x W^T): the mode in which the whole pipeline is compared with
// the oracle. Every sum is one chain of fused multiply-adds in the order of k.
#pragma once
#include "cuda/kernels/gemm_epilogue.cuh"

namespace fsv::cuda::kernels {

struct FmaTile {
  static constexpr int kM = 64, kN = 64, kK = 16;
  static constexpr int kThreads = 256;  ///< each 4 x 4 sums
  /// A stage holds columns, so that a thread reads its four rows at once.
  static constexpr int kPitch = kM + 4;
  static constexpr uint32_t kOperandBytes = kK * kPitch * 4, kStageBytes = 2 * kOperandBytes;
  static constexpr uint32_t kShared = 2 * kStageBytes;
};

struct FmaArgs {
  const float* x = nullptr;  ///< [m, k]
  const float* w = nullptr;  ///< [n, k], rows w_stride apart
  int64_t k = 0, w_stride = 0;
  GemmEpilogue epilogue;
};

/// Where element (k, row) of a stage lies; the eights change places so that a warp's stores meet on no bank.
FSV_DEVICE uint32_t column_at(uint32_t columns, int k, int row) {
  return columns + (k * FmaTile::kPitch + (row ^ k / 8 * 8)) * 4;
}

/// Brings this thread's four elements of 64 rows x kK columns to shared memory.
FSV_DEVICE void load_columns(const float* rows, int64_t row, int64_t row_count, int64_t stride, int64_t k,
                             int64_t depth, uint32_t to) {
  const int r = threadIdx.x / 4, first = threadIdx.x % 4 * 4;
  FSV_UNROLL for (int i = 0; i < 4; i++) {
    const bool inside = row + r < row_count && k + first + i < depth;
    const float value = inside ? ptx::ldg(rows + (row + r) * stride + k + first + i) : 0.0f;
    ptx::sts(column_at(to, first + i, r), value);
  }
}

/// One block of kThreads threads and kShared bytes a tile, those below each other one after the other.
FSV_KERNEL void FSV_BOUNDS(FmaTile::kThreads, 1) gemm_f32(FSV_GRID_CONSTANT FmaArgs args) {
  using Tile = FmaTile;
  const uint32_t base = ptx::smem_base();
  const GemmEpilogue& e = args.epilogue;
  const int64_t row_tiles = (e.m + Tile::kM - 1) / Tile::kM;
  const int64_t row = blockIdx.x % row_tiles * Tile::kM, col = blockIdx.x / row_tiles * Tile::kN;
  const int own_row = threadIdx.x / 16 * 4, own_col = threadIdx.x % 16 * 4;
  const auto load = [&](int64_t k, uint32_t stage) {
    load_columns(args.x, row, e.m, args.k, k, args.k, stage);
    load_columns(args.w, col, e.n, args.w_stride, k, args.k, stage + Tile::kOperandBytes);
  };

  Quad sums[4] = {};
  uint32_t stage = 0;
  if (args.k > 0) load(0, base);
  for (int64_t k = 0; k < args.k; k += Tile::kK, stage ^= 1) {
    ptx::syncthreads();  // this stage is filled, the other one free
    if (k + Tile::kK < args.k) load(k + Tile::kK, base + (stage ^ 1) * Tile::kStageBytes);
    const uint32_t x = base + stage * Tile::kStageBytes, w = x + Tile::kOperandBytes;
    FSV_UNROLL for (int i = 0; i < Tile::kK; i++) {
      const Quad a = ptx::lds<Quad>(column_at(x, i, own_row));
      const Quad b = ptx::lds<Quad>(column_at(w, i, own_col));
      FSV_UNROLL for (int r = 0; r < 4; r++) FSV_UNROLL for (int c = 0; c < 4; c++) sums[r].v[c] =
          fmaf(a.v[r], b.v[c], sums[r].v[c]);
    }
  }
  FSV_UNROLL for (int r = 0; r < 4; r++) finish_quad(e, row + own_row + r, col + own_col, sums[r]);
}

}  // namespace fsv::cuda::kernels
