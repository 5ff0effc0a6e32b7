// How the statistics of a group_norm are cut into blocks: by the shape, and by whether x allows packs.
#pragma once

#include <numeric>

#include "core/tensor.h"
#include "cuda/kernels/group_norm.cuh"
#include "cuda/launch/rows_plan.h"

namespace fsv::cuda {

/// How the statistics of a group_norm are gathered: the kernel's task without pointers, and where its results
/// lie in the workspace.
struct StatsPlan {
  kernels::GroupStatsTask task = {};
  int pack;
  int64_t samples, stats_bytes, vector_bytes;
};

inline StatsPlan plan_stats(const TensorView& x, int64_t groups) {
  constexpr int64_t kMostPieces = 512;
  StatsPlan plan;
  const Shape& shape = x.shape;
  const int64_t channels = shape[-1], group = channels / groups;
  plan.samples = shape[0];
  plan.pack = x.dtype == DType::bf16 ? kernels::kPack<Bf16> : kernels::kPack<float>;
  const auto most = [&] {
    return std::min<int64_t>(512, int64_t{kernels::kStatsThreads} * plan.pack);
  };  // of a tile
  // Groups that fill whole packs together.
  const int64_t together = plan.pack / std::gcd(group, int64_t{plan.pack});
  const bool fits = group > most() ? together == 1 : together * group <= most();
  if (!all_aligned({x.data}) || channels % plan.pack != 0 || !fits) plan.pack = 1;

  kernels::GroupStatsTask& task = plan.task;
  task.rows = shape.elements(1, shape.rank - 1);
  task.channels = channels;
  task.groups = static_cast<int>(groups);
  const int64_t step = plan.pack == 1 ? 1 : together;
  if (group <= most()) {
    task.parts = 1;
    task.width = static_cast<int>(group);
    task.slots = static_cast<int>(std::min(groups, most() / (group * step) * step));
  } else {
    const int64_t parts = (group + most() - 1) / most(), even = (group + parts - 1) / parts;
    task.width = static_cast<int>((even + plan.pack - 1) / plan.pack * plan.pack);
    task.parts = static_cast<int>((group + task.width - 1) / task.width);
    task.slots = 1;
  }
  task.tiles = static_cast<int>((groups * task.parts + task.slots - 1) / task.slots);
  const int64_t rows_at_once =
      kernels::kStatsThreads / (task.slots * task.width / plan.pack) * kernels::kStatsHeld;
  const int64_t pieces = std::clamp<int64_t>((task.rows + rows_at_once - 1) / rows_at_once, 1, kMostPieces);
  task.rows_a_piece = ((task.rows + pieces - 1) / pieces + rows_at_once - 1) / rows_at_once * rows_at_once;
  task.pieces = (task.rows + task.rows_a_piece - 1) / task.rows_a_piece;
  plan.stats_bytes = plan.samples * task.pieces * groups * task.parts * int64_t{sizeof(kernels::Spread)};
  plan.vector_bytes = (plan.samples * channels * 4 + 15) / 16 * 16;
  return plan;
}

/// The sums of a tile, of the last one, which may have fewer slots, or of a part that is narrower.
inline int words_of_sums(const StatsPlan& plan) {
  const kernels::GroupStatsTask& task = plan.task;
  const int last = task.groups * task.parts - (task.tiles - 1) * task.slots;
  return std::max({kernels::StatsLayout(task.slots, task.width, plan.pack).words(),
                   kernels::StatsLayout(last, task.width, plan.pack).words(), kernels::kStatsThreads});
}

inline GridPlan stats_shape(const StatsPlan& plan) {
  return {.grid = Extent(static_cast<unsigned>(plan.samples * plan.task.pieces),
                         static_cast<unsigned>(plan.task.tiles)),
          .block = kernels::kStatsThreads,
          .smem = static_cast<size_t>(kernels::stats_shared(words_of_sums(plan), plan.task.slots))};
}

}  // namespace fsv::cuda
