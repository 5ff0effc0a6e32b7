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

/// A tile of gemm_sm90.cuh: rows, columns, and the columns of the tiles that may come last.
struct WgmmaTile {
  int rows = 0, cols = 0, last = 0;

  constexpr bool operator==(const WgmmaTile&) const = default;
};

/// The tiles that are instantiated. Tiles of 192 rows move less for a product than those of 128, but hold no
/// more than 192 columns of sums. A second width pays where most of a last round would be idle. fp8 holds
/// each sum twice, so its tiles are narrower. Of equals the first is taken: those of one width have more
/// stages.
inline constexpr WgmmaTile kTiles[] = {{128, 64, 64},   {128, 128, 128}, {128, 160, 160},
                                       {128, 256, 160}, {128, 224, 192}, {192, 192, 160}};
inline constexpr WgmmaTile kFp8Tiles[] = {{128, 64, 64}, {128, 128, 128}, {128, 192, 64}};

struct WgmmaPlan {
  WgmmaTile tile;
  int cluster = 1;
  kernels::TileOrder order, last;  ///< of clusters: first the tiles of tile.cols, then those of tile.last
  int blocks = 0;
  double cycles = 0;  ///< of the model

  constexpr int64_t tiles() const { return int64_t{order.count() + last.count()} * cluster; }
};

namespace detail {

/// Of tiles of a row that are narrower beside wide ones: enough to fill up rounds at the sizes that networks
/// have, for a search of 14 us at 13824 columns.
constexpr int64_t kMostNarrow = 48;

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
constexpr double tile_cycles(int64_t steps, int rows, int cols, int cluster, int64_t active) {
  const double tensor = rows * cols / 32.0;         // rows x cols x 64 multiply-adds, 2048 a cycle
  const double shared = rows + cols                 // 128 bytes a cycle: TMA writes both tiles,
                        + rows + rows / 64 * cols;  // wgmma reads x once and W for each warpgroup
  const double l2_rate = std::min(64.0, 6100.0 / static_cast<double>(active));  // bytes a cycle of each block
  const double l2 = 128.0 * (rows + static_cast<double>(cols) / cluster) / l2_rate;
  const double finish = 1000 + 10.0 * cols;  // latency of the first step, epilogue
  return static_cast<double>(steps) * std::max({tensor, shared, l2}) + finish;
}

/// Cycles of the busiest of `clusters` for `wide` tiles, then `narrow` ones, which they take in turns.
constexpr double cycles_of_all(int64_t clusters, int64_t wide, double wide_cycles, int64_t narrow,
                               double narrow_cycles) {
  const auto share = [&](int64_t tiles, int64_t cluster) { return ceil_div(tiles - cluster, clusters); };
  double most = 0;
  // Clusters between these have as much to do as the first of them.
  for (int64_t cluster : {int64_t{0}, wide % clusters, (wide + narrow) % clusters}) {
    const int64_t of_wide = share(wide, cluster), of_both = share(wide + narrow, cluster);
    most = std::max(most, static_cast<double>(of_wide) * wide_cycles +
                              static_cast<double>(of_both - of_wide) * narrow_cycles);
  }
  return most;
}

}  // namespace detail

/// The plan of one candidate, whose last `narrow` tiles of a row are tile.last wide, but for the order.
/// `row_bytes` of x.
constexpr WgmmaPlan wgmma_plan(int64_t m, int64_t n, int64_t row_bytes, int multiprocessors,
                               const WgmmaTile& tile, int cluster, int64_t narrow = 0) {
  const int64_t tiles_m = ceil_div(m, tile.rows * cluster), steps = ceil_div(row_bytes, 128);
  const int64_t wide = ceil_div(std::max<int64_t>(0, n - narrow * tile.last), tile.cols);
  const int64_t clusters = std::min<int64_t>(tiles_m * (wide + narrow), multiprocessors / cluster);
  const auto cycles = [&](int cols) {
    return detail::tile_cycles(steps, tile.rows, cols, cluster, clusters * cluster);
  };
  WgmmaPlan plan;
  plan.tile = tile;
  plan.cluster = cluster;
  plan.blocks = static_cast<int>(clusters * cluster);
  plan.order = {static_cast<int>(tiles_m), static_cast<int>(wide)};
  plan.last = {static_cast<int>(tiles_m), static_cast<int>(narrow)};
  plan.cycles =
      detail::cycles_of_all(clusters, tiles_m * wide, cycles(tile.cols), tiles_m * narrow, cycles(tile.last));
  return plan;
}

constexpr WgmmaPlan in_groups(WgmmaPlan plan) {
  const int rows = plan.tile.rows * plan.cluster, clusters = plan.blocks / plan.cluster;
  plan.order.group = detail::best_group(plan.order.tiles_m, rows, plan.tile.cols, clusters);
  plan.last.group = detail::best_group(plan.last.tiles_m, rows, plan.tile.last, clusters);
  return plan;
}

/// The candidate of least modelled time, among tiles `only` so wide if that is given. Clusters of two share
/// W's tile, where there are rows for two: of equals, they ask less of L2.
constexpr WgmmaPlan plan_wgmma(DType dtype, int64_t m, int64_t n, int64_t k, int multiprocessors,
                               int only = 0) {
  const int64_t row_bytes = k * static_cast<int64_t>(size_of(dtype));
  WgmmaPlan best;
  const auto consider = [&](const WgmmaTile& tile) {
    if (only > 0 && tile.cols != only) return;
    for (int cluster = 2; cluster >= 1; cluster--) {
      if (cluster == 2 && (m <= tile.rows || multiprocessors < 2)) continue;
      const auto with = [&](int64_t narrow) {
        const WgmmaPlan plan = wgmma_plan(m, n, row_bytes, multiprocessors, tile, cluster, narrow);
        if (best.blocks == 0 || plan.cycles < best.cycles) best = plan;
      };
      with(0);
      if (tile.last == tile.cols) continue;
      const int64_t all = ceil_div(n, tile.last);
      for (int64_t narrow = 1; narrow <= std::min(detail::kMostNarrow, all); narrow++) with(narrow);
      with(all);
    }
  };
  if (dtype == DType::f8e4m3)
    for (const WgmmaTile& tile : kFp8Tiles) consider(tile);
  else
    for (const WgmmaTile& tile : kTiles) consider(tile);
  return in_groups(best);
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
