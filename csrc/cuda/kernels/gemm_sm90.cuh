// GEMM for Hopper: y = epilogue(x W^T), x [m, k] and W [n, k] of bf16 or of fp8 e4m3. Persistent and
// warp-specialised: one thread of the first warpgroup keeps a ring of stages filled by TMA, the other two or
// three warpgroups multiply 64 rows each with wgmma and finish them. The block's next tile is being loaded
// while the last one is finished, and its result leaves by TMA while the next is multiplied. Structure after
// CUTLASS's cooperative kernel and DeepGEMM; tile shapes: launch/linear_plan.h.
//
// The last columns of the result may be in narrower tiles, which come last: a processor's share of the result
// is then no multiple of one tile, and the round in which a few tiles are left is a short one.
//
// Ragged edges cost no code: TMA fills with zeros what lies outside of x and W and drops what lies outside of
// y.
//
// Every sum runs over k in steps of one wgmma, whatever the tile: a row's bits depend on nothing but the row.
#pragma once
#include "cuda/kernels/gemm_epilogue.cuh"
#include "cuda/kernels/gemm_schedule.h"
#include "cuda/kernels/ring.cuh"

namespace fsv::cuda::kernels {

enum class Operand { bf16, e4m3 };

/// Tiles of kM x kN, in the last columns of kM x kLast.
template <Operand kOperand_, int kM_, int kN_, int kLast_ = kN_>
struct GemmTile {
  static constexpr Operand kOperand = kOperand_;
  static constexpr int kM = kM_, kN = kN_, kLast = kLast_;
  static constexpr int kGroups = kM / 64;  ///< warpgroups that multiply
  static constexpr int kThreads = 128 * (1 + kGroups);
  /// All threads start with the same share of 65536 registers: the producer's warpgroup hands most of its own
  /// to the sums.
  static constexpr int kStartRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kLoadRegisters = kGroups == 2 ? 40 : 32;
  static constexpr int kSumRegisters = ((1 + kGroups) * kStartRegisters - kLoadRegisters) / kGroups;
  /// A stage holds 128 bytes of every row, one swizzle span.
  static constexpr int kK = kOperand == Operand::bf16 ? 64 : 128;
  /// Columns of a box of the result.
  static constexpr int kPanel = kN % 64 == 0 && kLast % 64 == 0 ? 64 : 32;
  static constexpr ptx::Swizzle kPanelSwizzle = kPanel == 64 ? ptx::SW_128 : ptx::SW_64;

  static constexpr uint32_t kXBytes = kM * 128, kWBytes = kN * 128, kStageBytes = kXBytes + kWBytes;
  static constexpr uint32_t kGroupStaging = 64 * kN * 2;  ///< the result of one warpgroup, in bf16
  static constexpr uint32_t kMostShared = 232448, kAlignment = 1024, kMostBarriers = 256;
  static constexpr int kFit =
      (kMostShared - kAlignment - kMostBarriers - kGroups * kGroupStaging) / kStageBytes;
  static constexpr int kStages = kFit < 8 ? kFit : 8;

  static constexpr uint32_t kStaging = kStages * kStageBytes;
  static constexpr uint32_t kBarriers = kStaging + kGroups * kGroupStaging;
  static constexpr uint32_t kShared = kBarriers + kMostBarriers + kAlignment;

  static_assert(kM % 64 == 0 && kM <= 256, "whole warpgroups; a box of TMA has at most 256 rows");
  static_assert(kN % 32 == 0 && kN <= 256, "chunks of 32 columns; one wgmma is at most 256 wide");
  static_assert(kLast % 32 == 0 && kLast <= kN, "what is last lies in the stages of the others");
  static_assert(kSumRegisters % 8 == 0 && kLoadRegisters >= 24, "what setmaxnreg takes");
  static_assert(kStages >= 3, "two stages cannot hide the latency of a load");
};

struct GemmArgs {
  int m = 0, n = 0, k = 0;
  TileOrder order;      ///< of what a cluster computes: `cluster` tiles below each other
  TileOrder last;       ///< after that, right of it: tiles of kLast columns
  int cluster = 1;      ///< 1, or 2: both blocks load half of W's tile for both
  bool by_tma = false;  ///< the result is bf16 or fp8 and TMA can address its rows
  /// Of groups of an fp8 x, [m, groups]: a group is a step along k. Null: none, or of rows, in the epilogue.
  const float* x_scales = nullptr;
  int groups = 0;
  GemmEpilogue epilogue;
};

namespace gemm_sm90_detail {

/// Addresses in shared memory. Barriers: `full` and `empty` of each stage, and one for each warpgroup's
/// residual.
template <class Tile>
struct GemmShared {
  uint32_t base;

  FSV_DEVICE uint32_t x(int stage) const { return base + stage * Tile::kStageBytes; }
  FSV_DEVICE uint32_t w(int stage) const { return x(stage) + Tile::kXBytes; }
  FSV_DEVICE uint32_t staging(int group) const { return base + Tile::kStaging + group * Tile::kGroupStaging; }
  FSV_DEVICE uint32_t full(int stage) const { return base + Tile::kBarriers + 8 * stage; }
  FSV_DEVICE uint32_t empty(int stage) const { return full(Tile::kStages + stage); }
  FSV_DEVICE uint32_t residual(int group) const { return full(2 * Tile::kStages + group); }
};

/// Columns of a tile, known to the compiler.
template <int kCols>
struct Columns {
  static constexpr int kCount = kCols;
};

/// The tiles of one block: calls body(columns, first row, first column) for each.
template <class Tile, class Body>
FSV_DEVICE void each_tile(const GemmArgs& args, const Body& body) {
  const int cluster = blockIdx.x / args.cluster, rank = blockIdx.x % args.cluster;
  const int first = args.order.count(), count = first + args.last.count();
  const auto row_of = [&](TileAt tile) { return (tile.m * args.cluster + rank) * Tile::kM; };
  for (int i = cluster; i < count; i += gridDim.x / args.cluster) {
    if constexpr (Tile::kLast < Tile::kN) {
      if (i >= first) {
        const TileAt tile = args.last[i - first];
        const int col = args.order.tiles_n * Tile::kN + tile.n * Tile::kLast;
        body(Columns<Tile::kLast>(), row_of(tile), col);
        continue;
      }
    }
    const TileAt tile = args.order[i];
    body(Columns<Tile::kN>(), row_of(tile), tile.n * Tile::kN);
  }
}

/// Maps of x, and of W for tiles of kN and of kLast columns.
struct OperandMaps {
  const ptx::TensorMap *x, *w, *w_last;
};

/// The producer: one thread.
template <class Tile>
FSV_DEVICE void load_tiles(const GemmArgs& args, const GemmShared<Tile>& shared, const OperandMaps& maps) {
  const int steps = (args.k + Tile::kK - 1) / Tile::kK;
  const int rank = blockIdx.x % args.cluster;
  RingPlace at;
  each_tile<Tile>(args, [&](auto columns, int row, int col) {
    constexpr int kCols = decltype(columns)::kCount;
    constexpr uint32_t kWBytes = kCols * 128;
    const ptx::TensorMap* w = kCols == Tile::kN ? maps.w : maps.w_last;
    for (int step = 0; step < steps; step++, at.advance(Tile::kStages)) {
      const uint32_t full = shared.full(at.slot);
      ptx::mbar_wait_cluster(shared.empty(at.slot), at.parity ^ 1);
      ptx::mbar_arrive_expect_tx(full, Tile::kXBytes + kWBytes);
      ptx::tma_load_2d(shared.x(at.slot), maps.x, full, step * Tile::kK, row);
      if (args.cluster == 1)
        ptx::tma_load_2d(shared.w(at.slot), w, full, step * Tile::kK, col);
      else
        ptx::tma_load_multicast_2d(shared.w(at.slot) + rank * (kWBytes / 2), w, full, uint16_t{3},
                                   step * Tile::kK, col + rank * (kCols / 2));
    }
  });
}

/// What the two rows of a thread are multiplied by, step by step. Of a row that is not there: anything.
struct StepScales {
  const float *upper = nullptr, *lower = nullptr;

  FSV_DEVICE StepScales(const GemmArgs& args, int row) {
    if (!args.x_scales) return;
    const int mine = row + threadIdx.x / 32 % 4 * 16 + ptx::lane_id() / 4, last = args.m - 1;
    upper = args.x_scales + int64_t{mine < last ? mine : last} * args.groups;
    lower = args.x_scales + int64_t{mine + 8 < last ? mine + 8 : last} * args.groups;
  }
  FSV_DEVICE float2 operator[](int step) const {
    return upper ? float2{ptx::ldg(upper + step), ptx::ldg(lower + step)} : float2{1, 1};
  }
};

/// The 64 x kCols sums of a warpgroup over one tile's depth, from `row` on. `after_first` runs when the first
/// products are under way.
template <class Tile, int kCols, class AfterFirst>
FSV_DEVICE void multiply(const GemmArgs& args, const GemmShared<Tile>& shared, int group, int row,
                         RingPlace& at, float (&sums)[kCols / 2], const AfterFirst& after_first) {
  const int steps = (args.k + Tile::kK - 1) / Tile::kK, thread = threadIdx.x % 128;
  // Stages whose W came from both blocks of a cluster are free when both have used them.
  const auto release = [&](int stage) {
    if (args.cluster == 1) {
      if (thread == 0) ptx::mbar_arrive(shared.empty(stage));
    } else if (thread < 2) {
      ptx::mbar_arrive_cluster(ptx::mapa(shared.empty(stage), thread));
    }
  };
  // The products of one step, on top of the sums or instead of them.
  const auto multiply_step = [&](float(&to)[kCols / 2], bool onto) {
    ptx::mbar_wait(shared.full(at.slot), at.parity);
    const uint64_t x = ptx::gmma_desc(shared.x(at.slot) + group * 64 * 128, 16, 1024, ptx::SW_128);
    const uint64_t w = ptx::gmma_desc(shared.w(at.slot), 16, 1024, ptx::SW_128);
    ptx::wgmma_fence();
    FSV_UNROLL for (int i = 0; i < 4; i++) {  // 32 bytes of each row
      if constexpr (Tile::kOperand == Operand::bf16)
        ptx::wgmma_bf16<kCols>(to, x + 2 * i, w + 2 * i, onto || i > 0);
      else
        ptx::wgmma_e4m3<kCols>(to, x + 2 * i, w + 2 * i, onto || i > 0);
    }
    ptx::wgmma_commit();
  };

  // Written and not left to the first product: what a loop's body never writes would hold registers all
  // along.
  FSV_UNROLL for (float& sum : sums) sum = 0;
  if constexpr (Tile::kOperand == Operand::bf16) {
    ptx::wgmma_fence(sums);
    int previous = 0;
    for (int step = 0; step < steps; step++, at.advance(Tile::kStages)) {
      multiply_step(sums, true);
      ptx::wgmma_wait<1>(sums);  // the step before this one has finished reading
      if (step == 0)
        after_first();
      else
        release(previous);
      previous = at.slot;
    }
    ptx::wgmma_wait<0>(sums);
    release(previous);
  } else {
    // Tensor cores add fp8 products with few bits: sums of 128 are promoted to f32 (DeepGEMM), and scaled.
    static_assert(Tile::kK == kScaleGroup);
    const StepScales scales(args, row);
    float part[kCols / 2];
    for (int step = 0; step < steps; step++, at.advance(Tile::kStages)) {
      multiply_step(part, false);
      if (step == 0) after_first();
      const float2 scale = scales[step];
      ptx::wgmma_wait<0>(part);
      release(at.slot);
      FSV_UNROLL for (int i = 0; i < kCols / 2; i++) sums[i] =
          fmaf(part[i], i % 4 < 2 ? scale.x : scale.y, sums[i]);
    }
  }
}

/// What the columns of a pair share, and what a row gives to all of its columns.
struct ColumnTerms {
  float2 bias = {0, 0}, scale = {1, 1};

  FSV_DEVICE ColumnTerms(const GemmEpilogue& e, int col) {
    if (col >= e.n) return;
    if (e.bias) bias = ptx::ldg(reinterpret_cast<const float2*>(e.bias + col));
    if (e.col_scale) scale = ptx::ldg(reinterpret_cast<const float2*>(e.col_scale + col));
  }
};

struct RowTerms {
  int64_t gate_at = 0;  ///< of a row that is not there too: its values go nowhere
  float scale = 1;

  FSV_DEVICE RowTerms(const GemmEpilogue& e, int64_t row) {
    if (row >= e.m) return;
    if (e.gate) gate_at = e.gate_at(row);
    if (e.row_scale) scale = ptx::ldg(e.row_scale + row);
  }
  FSV_DEVICE float2 gate(const GemmEpilogue& e, int col) const {
    if (col >= e.n) return {0, 0};
    const int64_t at = gate_at + col;
    if (e.gate_f32())
      return ptx::ldg(reinterpret_cast<const float2*>(static_cast<const float*>(e.gate) + at));
    const auto two = ptx::ldg(reinterpret_cast<const uint32_t*>(static_cast<const uint16_t*>(e.gate) + at));
    return {ptx::bf16_lo(two), ptx::bf16_hi(two)};
  }
};

/// act(sum * scales + bias) of the two neighbours of each row from column `left` on.
FSV_DEVICE void finish_pairs(const GemmEpilogue& e, const RowTerms& upper, const RowTerms& lower, int left,
                             float* v) {
  const ColumnTerms column(e, left);
  v[0] = fmaf(v[0], upper.scale * column.scale.x, column.bias.x);
  v[1] = fmaf(v[1], upper.scale * column.scale.y, column.bias.y);
  v[2] = fmaf(v[2], lower.scale * column.scale.x, column.bias.x);
  v[3] = fmaf(v[3], lower.scale * column.scale.y, column.bias.y);
}

/// Finishes a warpgroup's sums into its staging, as boxes of kPanel columns in TMA's swizzle; the residual
/// lies there already. ldmatrix and stmatrix deal out 8 x 8 elements just as wgmma does its sums.
template <class Tile, int kCols>
FSV_DEVICE void finish_sums(const GemmEpilogue& e, const float (&sums)[kCols / 2], uint32_t staging, int row,
                            int col) {
  const int lane = ptx::lane_id(), warp = threadIdx.x / 32 % 4;
  const RowTerms upper(e, row + warp * 16 + lane / 4), lower(e, row + warp * 16 + lane / 4 + 8);
  // Lane 8i + r addresses row r of matrix i: upper left, lower left, upper right, lower right.
  const int matrix_row = warp * 16 + lane % 16, matrix_col = lane / 16 * 8;
  FSV_UNROLL for (int c = 0; c < kCols; c += 16) {
    const int panel = (c + matrix_col) / Tile::kPanel, in_panel = (c + matrix_col) % Tile::kPanel;
    const uint32_t at = ptx::swizzle(Tile::kPanelSwizzle, staging + panel * (64 * Tile::kPanel * 2) +
                                                              matrix_row * (Tile::kPanel * 2) + in_panel * 2);
    uint32_t residual[4] = {};
    if (e.residual) ptx::ldmatrix_x4(residual, at);

    float v[8];
    FSV_UNROLL for (int i = 0; i < 8; i++) v[i] = sums[c / 2 + i];
    const int left = col + c + lane % 4 * 2;
    FSV_UNROLL for (int h = 0; h < 2; h++) finish_pairs(e, upper, lower, left + 8 * h, v + 4 * h);
    activate(e.activation, v);
    float2 gates[4] = {{1, 1}, {1, 1}, {1, 1}, {1, 1}};
    if (e.gate)
      FSV_UNROLL for (int i = 0; i < 4; i++) gates[i] = (i % 2 ? lower : upper).gate(e, left + i / 2 * 8);
    FSV_UNROLL for (int i = 0; i < 4; i++) residual[i] =
        ptx::pack_bf16(fmaf(v[2 * i], gates[i].x, ptx::bf16_lo(residual[i])),
                       fmaf(v[2 * i + 1], gates[i].y, ptx::bf16_hi(residual[i])));
    ptx::stmatrix_x4(at, residual[0], residual[1], residual[2], residual[3]);
  }
}

/// Finishes a warpgroup's sums as fp8 into its staging, one box of 64 rows of 128 bytes: the tile is one
/// group of scales wide. A row's columns are with four lanes, which find its largest together. Columns that
/// are not there are zeros.
template <class Tile, int kCols>
FSV_DEVICE void finish_as_fp8(const GemmEpilogue& e, float (&sums)[kCols / 2], uint32_t staging, int row,
                              int col) {
  static_assert(kCols == kScaleGroup);
  const int lane = ptx::lane_id(), of_warp = threadIdx.x / 32 % 4 * 16 + lane / 4;
  const RowTerms upper(e, row + of_warp), lower(e, row + of_warp + 8);
  float largest[2] = {};
  FSV_UNROLL for (int c = 0; c < kCols; c += 8) {
    float* v = sums + c / 2;
    finish_pairs(e, upper, lower, col + c + lane % 4 * 2, v);
    float four[4] = {v[0], v[1], v[2], v[3]};
    activate(e.activation, four);
    FSV_UNROLL for (int i = 0; i < 4; i++) {
      v[i] = four[i];
      largest[i / 2] = fmaxf(largest[i / 2], fabsf(four[i]));
    }
  }
  FSV_UNROLL for (int half = 0; half < 2; half++) {
    const int r = of_warp + 8 * half;
    const float scale = fp8_scale(largest_of_lanes<4>(largest[half])), inverse = 1.0f / scale;
    if (lane % 4 == 0 && row + r < e.m)
      ptx::stg(e.out_scales + (row + r) * ((e.n + kScaleGroup - 1) / kScaleGroup) + col / kScaleGroup, scale);
    FSV_UNROLL for (int c = 0; c < kCols; c += 8) {
      const float* v = sums + c / 2 + 2 * half;
      ptx::sts(ptx::swizzle(ptx::SW_128, staging + r * 128 + c + lane % 4 * 2),
               static_cast<uint16_t>(ptx::pack_e4m3(v[0] * inverse, v[1] * inverse)));
    }
  }
}

/// Finishes a warpgroup's sums by chunks, each warp in its quarter of the staging.
template <class Tile, int kCols>
FSV_DEVICE void finish_by_chunks(const GemmEpilogue& e, const float (&sums)[kCols / 2], uint32_t staging,
                                 int row, int col) {
  constexpr int kAtOnce = Tile::kN / 64 * kChunkCols;  // columns of f32 where a quarter holds kN of bf16
  constexpr uint32_t kChunkBytes = 16 * kChunkRowBytes;
  const int warp = threadIdx.x / 32 % 4;
  const uint32_t chunks = ptx::not_hoisted(staging + warp * (Tile::kGroupStaging / 4));
  FSV_UNROLL for (int first = 0; first < kCols; first += kAtOnce) {
    const int cols = kCols - first < kAtOnce ? kCols - first : kAtOnce;
    FSV_UNROLL for (int c = 0; c < cols; c += 8)
        put_fragment(chunks + c / kChunkCols * kChunkBytes, 0, c % kChunkCols, sums + (first + c) / 2);
    FSV_ROLLED for (int c = 0; c < cols; c += kChunkCols)
        finish_chunk(e, chunks + c / kChunkCols * kChunkBytes, 16, row + warp * 16, col + first + c);
  }
}

/// A consumer warpgroup: `group` counts the 64 rows of every tile that it takes, from above.
template <class Tile>
FSV_DEVICE void multiply_tiles(const GemmArgs& args, const GemmShared<Tile>& shared, int group,
                               const ptx::TensorMap* residual, const ptx::TensorMap* out) {
  constexpr uint32_t kPanelBytes = 64 * Tile::kPanel * 2;
  const GemmEpilogue& e = args.epilogue;
  const bool leader = threadIdx.x % 128 == 0;
  const uint32_t staging = shared.staging(group);
  const bool staged_residual = args.by_tma && e.residual;
  RingPlace at;
  uint32_t residual_parity = 0;
  each_tile<Tile>(args, [&](auto columns, int tile_row, int col) {
    constexpr int kCols = decltype(columns)::kCount;
    const int row = tile_row + group * 64;
    float sums[kCols / 2];
    multiply<Tile, kCols>(args, shared, group, row, at, sums, [&] {
      if (!leader) return;
      ptx::bulk_wait_read<0>();  // the tile before this one has left the staging
      if (!staged_residual) return;
      ptx::mbar_arrive_expect_tx(shared.residual(group), 64 * kCols * 2);
      for (int p = 0; p < kCols / Tile::kPanel; p++)
        ptx::tma_load_2d(staging + p * kPanelBytes, residual, shared.residual(group), col + p * Tile::kPanel,
                         row);
    });
    if (!args.by_tma) return finish_by_chunks<Tile, kCols>(e, sums, staging, row, col);
    ptx::bar_sync(1 + group, 128);  // the leader has seen the staging free
    if (staged_residual) {
      ptx::mbar_wait(shared.residual(group), residual_parity);
      residual_parity ^= 1;
    }
    int panels = kCols / Tile::kPanel;
    if constexpr (kCols == kScaleGroup) {
      if (e.out_scales) panels = 1;
      if (e.out_scales)
        finish_as_fp8<Tile, kCols>(e, sums, staging, row, col);
      else
        finish_sums<Tile, kCols>(e, sums, staging, row, col);
    } else {
      finish_sums<Tile, kCols>(e, sums, staging, row, col);
    }
    ptx::fence_proxy_async();
    ptx::bar_sync(1 + group, 128);
    if (leader) {
      for (int p = 0; p < panels; p++)
        ptx::tma_store_2d(out, staging + p * kPanelBytes, col + p * Tile::kPanel, row);
      ptx::bulk_commit();
    }
  });
  if (leader) ptx::bulk_wait<0>();
}

}  // namespace gemm_sm90_detail

/// Blocks of kThreads threads and kShared bytes, in clusters of args.cluster. Boxes: x [kM, kK], w [kN /
/// cluster, kK], w_last [kLast / cluster, kK] in 128 byte swizzle; residual and out [64, kPanel] in
/// kPanelSwizzle, out [64, 128] in 128 byte swizzle where it is fp8 (only read with by_tma).
template <class Tile>
FSV_KERNEL void FSV_BOUNDS(Tile::kThreads, 1)
    gemm_sm90(FSV_GRID_CONSTANT ptx::TensorMap x, FSV_GRID_CONSTANT ptx::TensorMap w,
              FSV_GRID_CONSTANT ptx::TensorMap w_last, FSV_GRID_CONSTANT ptx::TensorMap residual,
              FSV_GRID_CONSTANT ptx::TensorMap out, FSV_GRID_CONSTANT GemmArgs args) {
#if FSV_SM90A
  using namespace gemm_sm90_detail;
  const GemmShared<Tile> shared{ptx::align_up(ptx::smem_base(), Tile::kAlignment)};
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < Tile::kStages; stage++) {
      ptx::mbar_init(shared.full(stage), 1);
      ptx::mbar_init(shared.empty(stage), Tile::kGroups * args.cluster);
    }
    for (int group = 0; group < Tile::kGroups; group++) ptx::mbar_init(shared.residual(group), 1);
    ptx::fence_mbar_init();
  }
  if (args.cluster == 1)
    ptx::syncthreads();
  else
    ptx::cluster_sync();

  if (threadIdx.x < 128) {
    ptx::setmaxnreg_dec<Tile::kLoadRegisters>();
    if (threadIdx.x < 32 && ptx::elect_one()) {
      ptx::tma_prefetch_desc(&x);
      ptx::tma_prefetch_desc(&w);
      load_tiles<Tile>(args, shared, {&x, &w, &w_last});
    }
  } else {
    ptx::setmaxnreg_inc<Tile::kSumRegisters>();
    multiply_tiles<Tile>(args, shared, threadIdx.x / 128 - 1, &residual, &out);
  }
  ptx::syncwarp();  // single threads were at work: the cluster's barrier takes whole warps
  if (args.cluster > 1) ptx::cluster_sync();  // a block stays until its neighbour has nothing more to send
#endif
}

}  // namespace fsv::cuda::kernels
