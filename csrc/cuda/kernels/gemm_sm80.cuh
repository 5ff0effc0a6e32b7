// GEMM for every card from Ampere on: y = epilogue(x W^T) by mma.sync, with a ring of stages that cp.async
// fills. Takes every shape: operands whose rows are not multiples of 16 bytes, and fp8 ones, are brought to
// shared memory through registers.
//
// fp8 becomes bf16 on the way. A bf16 x meets a weight of bf16(value * scale), just what `pack` makes of it;
// an fp8 x and its weight are multiplied as their values, which bf16 has exactly, and the epilogue applies
// both scales; scales of groups of x are multiplied in before, as those of a weight are.
//
// Every sum runs over k in steps of one mma, whatever the tile: a row's bits depend on nothing but the row.
#pragma once
#include "cuda/kernels/gemm_epilogue.cuh"
#include "cuda/kernels/gemm_schedule.h"

namespace fsv::cuda::kernels {

template <int kM_, int kN_, int kWarpRows_>
struct MmaTile {
  static constexpr int kM = kM_, kN = kN_;
  static constexpr int kWarpRows = kWarpRows_, kWarpCols = kChunkCols;  ///< of a warp
  static constexpr int kThreads = 32 * (kM / kWarpRows) * (kN / kWarpCols);
  static constexpr int kK = 32, kRowBytes = kK * 2;
  static constexpr int kStages = 4;
  static constexpr uint32_t kXBytes = kM * kRowBytes, kStageBytes = kXBytes + kN * kRowBytes;
  static constexpr uint32_t kAlignment = 512;  ///< period of the swizzle
  static constexpr uint32_t kChunkBytes = kWarpRows * kChunkRowBytes;
  static constexpr uint32_t kChunks = kThreads / 32 * kChunkBytes, kRing = kStages * kStageBytes;
  static constexpr uint32_t kShared = (kRing > kChunks ? kRing : kChunks) + kAlignment;
};

/// x or W as it lies in memory: `rows` rows of k elements.
struct MmaOperand {
  const void* data = nullptr;
  const float* scale = nullptr;  ///< [rows] or [rows, groups], multiplied in
  int64_t rows = 0, stride = 0;  ///< elements
  bool fp8 = false;
  int64_t groups = 0;

  /// Whether every row begins at 16 bytes, and has them for every chunk of k that it begins.
  FSV_DEVICE bool by_chunks() const { return !fp8 && stride % 8 == 0 && aligned(data, 16); }
};

struct MmaArgs {
  MmaOperand x, w;
  int64_t k = 0;
  TileOrder order;
  GemmEpilogue epilogue;
};

/// Element k of a row as the bf16 that is multiplied.
FSV_DEVICE float operand_value(const MmaOperand& a, int64_t row, int64_t k) {
  const int64_t at = row * a.stride + k;
  if (!a.fp8) return ptx::bf16_lo(ptx::ldg(static_cast<const uint16_t*>(a.data) + at));
  const float value = ptx::e4m3_lo(ptx::ldg(static_cast<const uint8_t*>(a.data) + at));
  if (!a.scale) return value;
  return value * ptx::ldg(a.scale + (a.groups > 0 ? row * a.groups + k / kScaleGroup : row));
}

/// Brings eight elements from k on to shared memory; zeros where x or W has none.
FSV_DEVICE void load_chunk(const MmaOperand& a, int64_t row, int64_t k, int64_t depth, uint32_t to) {
  const bool inside = row < a.rows && k < depth;
  if (a.by_chunks()) {
    ptx::cp_async16(to, static_cast<const uint16_t*>(a.data) + (inside ? row * a.stride + k : 0), inside);
    return;
  }
  const int64_t count = inside ? depth - k : 0;
  uint32_t words[4];
  FSV_UNROLL for (int i = 0; i < 4; i++) {
    const float low = 2 * i < count ? operand_value(a, row, k + 2 * i) : 0.0f;
    const float high = 2 * i + 1 < count ? operand_value(a, row, k + 2 * i + 1) : 0.0f;
    words[i] = ptx::pack_bf16(low, high);
  }
  ptx::sts(to, uint4{words[0], words[1], words[2], words[3]});
}

/// Where a chunk of 8 elements lies in the rows of a stage: ldmatrix finds the chunks of 8 rows on different
/// banks.
FSV_DEVICE uint32_t stage_at(uint32_t rows, int row, int chunk) {
  return ptx::swizzle(ptx::SW_64, rows + row * 64 + chunk * 16);
}

template <class Tile>
FSV_DEVICE void load_stage(const MmaArgs& args, int64_t row, int64_t col, int64_t k, uint32_t stage) {
  for (int c = threadIdx.x; c < Tile::kM * 4; c += Tile::kThreads)
    load_chunk(args.x, row + c / 4, k + c % 4 * 8, args.k, stage_at(stage, c / 4, c % 4));
  for (int c = threadIdx.x; c < Tile::kN * 4; c += Tile::kThreads)
    load_chunk(args.w, col + c / 4, k + c % 4 * 8, args.k, stage_at(stage + Tile::kXBytes, c / 4, c % 4));
}

/// A warp's rows x 32 sums over one stage. `x` and `w` are where its rows of the stage begin.
template <class Tile>
FSV_DEVICE void multiply_stage(uint32_t x, uint32_t w, float (&sums)[Tile::kWarpRows / 16][4][4]) {
  const int lane = ptx::lane_id();
  FSV_UNROLL for (int k = 0; k < Tile::kK / 8; k += 2) {
    uint32_t b[2][4];  // 16 columns each: two fragments of 8
    FSV_UNROLL for (int j = 0; j < 2; j++)
        ptx::ldmatrix_x4(b[j], stage_at(w, j * 16 + lane / 16 * 8 + lane % 8, k + lane / 8 % 2));
    FSV_UNROLL for (int i = 0; i < Tile::kWarpRows / 16; i++) {
      uint32_t a[4];
      ptx::ldmatrix_x4(a, stage_at(x, i * 16 + lane % 16, k + lane / 16));
      FSV_UNROLL for (int j = 0; j < 4; j++) {
        const uint32_t of_column[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        ptx::mma_m16n8k16_bf16(sums[i][j], a, of_column);
      }
    }
  }
}

/// One block of kThreads threads and kShared bytes a tile.
template <class Tile>
FSV_KERNEL void FSV_BOUNDS(Tile::kThreads, 1) gemm_sm80(FSV_GRID_CONSTANT MmaArgs args) {
  const uint32_t ring = ptx::align_up(ptx::smem_base(), Tile::kAlignment);
  const TileAt tile = args.order[static_cast<int>(blockIdx.x)];
  const int64_t row = int64_t{tile.m} * Tile::kM, col = int64_t{tile.n} * Tile::kN;
  const int64_t steps = (args.k + Tile::kK - 1) / Tile::kK;
  const int warp = threadIdx.x / 32;
  const int warp_row = warp / (Tile::kN / Tile::kWarpCols) * Tile::kWarpRows;
  const int warp_col = warp % (Tile::kN / Tile::kWarpCols) * Tile::kWarpCols;
  const auto stage = [&](int64_t step) {
    return ring + static_cast<uint32_t>(step % Tile::kStages) * Tile::kStageBytes;
  };

  float sums[Tile::kWarpRows / 16][4][4] = {};
  // Every step commits one group of copies, empty at the end, so that the wait below counts steps.
  for (int64_t step = 0; step < Tile::kStages - 1; step++) {
    if (step < steps) load_stage<Tile>(args, row, col, step * Tile::kK, stage(step));
    ptx::cp_async_commit();
  }
  for (int64_t step = 0; step < steps; step++) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    ptx::syncthreads();  // this step's stage is filled, that of the step before is free
    const int64_t ahead = step + Tile::kStages - 1;
    if (ahead < steps) load_stage<Tile>(args, row, col, ahead * Tile::kK, stage(ahead));
    ptx::cp_async_commit();
    const uint32_t x = stage(step) + warp_row * Tile::kRowBytes;
    const uint32_t w = stage(step) + Tile::kXBytes + warp_col * Tile::kRowBytes;
    multiply_stage<Tile>(x, w, sums);
  }

  ptx::syncthreads();  // the ring is free for chunks
  const uint32_t chunk = ring + warp * Tile::kChunkBytes;
  FSV_UNROLL for (int i = 0; i < Tile::kWarpRows / 16; i++) FSV_UNROLL for (int j = 0; j < 4; j++)
      put_fragment(chunk, i * 16, j * 8, sums[i][j]);
  finish_chunk(args.epilogue, chunk, Tile::kWarpRows, row + warp_row, col + warp_col);
}

}  // namespace fsv::cuda::kernels
