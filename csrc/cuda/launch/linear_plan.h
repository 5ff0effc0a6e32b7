// How a linear layer is computed: which kernel, which tile, in which order. Pure functions of the shape and
// the card, no search: a model of what one step of a tile costs the tensor cores, shared memory and L2, times
// the number of rounds that the card needs for all tiles (after DeepGEMM). Which kernel depends on nothing
// but a row and the weight, never on the number of rows, and all tiles of a kernel sum alike: so a row's bits
// do not depend on the batch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dtype.h"
#include "cuda/kernels/gemm_schedule.h"

namespace fsv::cuda {

constexpr int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }
constexpr int64_t round_up(int64_t value, int64_t step) { return ceil_div(value, step) * step; }

/// Elements from one row of a packed weight to the next: rows are padded with zeros to 16 bytes, as TMA and
/// cp.async want.
constexpr int64_t packed_stride(DType dtype, int64_t k) {
  return round_up(k, 16 / static_cast<int64_t>(size_of(dtype)));
}

enum class GemmFamily { wgmma, mma, fma };

/// x of `dtype` [m, k], W [n, k] of the same dtype (bf16 where it is fp8 beside a bf16 x).
constexpr GemmFamily gemm_family(DType dtype, int64_t k, bool hopper) {
  if (dtype == DType::f32) return GemmFamily::fma;
  const bool addressable = k > 0 && k * static_cast<int64_t>(size_of(dtype)) % 16 == 0;
  return hopper && addressable ? GemmFamily::wgmma : GemmFamily::mma;
}

/// The widths of tiles of 128 rows that are instantiated. fp8 holds each sum twice, so its tiles are
/// narrower.
inline constexpr int kTileCols[] = {256, 192, 160, 128, 64};
inline constexpr int kFp8TileCols[] = {192, 128, 64};

struct WgmmaPlan {
  int tile_n = 0;
  int cluster = 1;
  kernels::TileOrder order;
  int blocks = 0;
  double cycles = 0;  ///< of the model
};

namespace detail {

constexpr int kTileRows = 128;

/// The rows of tiles side by side that need the least of x and W for `blocks` tiles in flight.
constexpr int best_group(int64_t tiles_m, int rows, int cols, int64_t blocks) {
  int best = 1;
  int64_t least = INT64_MAX;
  for (int group = 1; group <= std::min<int64_t>(tiles_m, 64); group++) {
    const int64_t needed = int64_t{group} * rows + ceil_div(blocks, group) * cols;
    if (needed >= least) continue;
    least = needed;
    best = group;
  }
  return best;
}

/// Cycles of one block for one tile. A step is 128 bytes of every row; figures of an H100 SXM at 1.755 GHz.
constexpr double tile_cycles(int64_t steps, int cols, int cluster, int64_t active) {
  const double tensor = 4.0 * cols;                // 128 x cols x 64 multiply-adds, 2048 a cycle
  const double shared = kTileRows + cols           // 128 bytes a cycle: TMA writes both tiles,
                        + kTileRows + 2.0 * cols;  // wgmma reads x once and W for each warpgroup
  const double l2_rate = std::min(64.0, 6100.0 / static_cast<double>(active));  // bytes a cycle of each block
  const double l2 = 128.0 * (kTileRows + static_cast<double>(cols) / cluster) / l2_rate;
  const double finish = 1000 + 10.0 * cols;  // latency of the first step, epilogue
  return static_cast<double>(steps) * std::max({tensor, shared, l2}) + finish;
}

}  // namespace detail

/// The plan of one candidate. `row_bytes` of x.
constexpr WgmmaPlan wgmma_plan(int64_t m, int64_t n, int64_t row_bytes, int multiprocessors, int tile_n,
                               int cluster) {
  const int64_t tiles_m = ceil_div(m, detail::kTileRows * cluster), tiles_n = ceil_div(n, tile_n);
  const int64_t clusters = std::min<int64_t>(tiles_m * tiles_n, multiprocessors / cluster);
  const int64_t rounds = ceil_div(tiles_m * tiles_n, clusters);
  WgmmaPlan plan;
  plan.tile_n = tile_n;
  plan.cluster = cluster;
  plan.blocks = static_cast<int>(clusters * cluster);
  plan.order = {static_cast<int>(tiles_m), static_cast<int>(tiles_n),
                detail::best_group(tiles_m, detail::kTileRows * cluster, tile_n, clusters)};
  plan.cycles = static_cast<double>(rounds) *
                detail::tile_cycles(ceil_div(row_bytes, 128), tile_n, cluster, plan.blocks);
  return plan;
}

/// The candidate of least modelled time, among tiles `only` so wide if that is given. Clusters of two share
/// W's tile, where there are rows for two.
constexpr WgmmaPlan plan_wgmma(DType dtype, int64_t m, int64_t n, int64_t k, int multiprocessors,
                               int only = 0) {
  const int64_t row_bytes = k * static_cast<int64_t>(size_of(dtype));
  WgmmaPlan best;
  const auto consider = [&](int tile_n) {
    if (only > 0 && tile_n != only) return;
    for (int cluster = 1; cluster <= 2; cluster++) {
      if (cluster == 2 && (m <= detail::kTileRows || multiprocessors < 2)) continue;
      const WgmmaPlan plan = wgmma_plan(m, n, row_bytes, multiprocessors, tile_n, cluster);
      if (best.tile_n == 0 || plan.cycles < best.cycles) best = plan;
    }
  };
  if (dtype == DType::f8e4m3)
    for (int tile_n : kFp8TileCols) consider(tile_n);
  else
    for (int tile_n : kTileCols) consider(tile_n);
  return best;
}

/// Tiles of the portable kernel, rows x columns. Few rows: the weight is streamed by as many blocks as there
/// are.
enum class MmaTileSize { large, medium, flat };
struct MmaPlan {
  MmaTileSize size = MmaTileSize::large;
  kernels::TileOrder order;
};

constexpr MmaPlan plan_mma(int64_t m, int64_t n, int multiprocessors) {
  const auto plan = [&](MmaTileSize size, int rows, int cols) {
    const int64_t tiles_m = ceil_div(m, rows), tiles_n = ceil_div(n, cols);
    const int group =
        detail::best_group(tiles_m, rows, cols, std::min<int64_t>(tiles_m * tiles_n, multiprocessors));
    return MmaPlan{size, {static_cast<int>(tiles_m), static_cast<int>(tiles_n), group}};
  };
  if (m <= 16) return plan(MmaTileSize::flat, 16, 64);
  if (ceil_div(m, 128) * ceil_div(n, 128) < multiprocessors) return plan(MmaTileSize::medium, 64, 64);
  return plan(MmaTileSize::large, 128, 128);
}

}  // namespace fsv::cuda
