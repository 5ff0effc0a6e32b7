// From the plans of rows_plan.h, which know no CUDA, to launches.
#pragma once

#include "cuda/launch.h"
#include "cuda/launch/rows_plan.h"

namespace fsv::cuda {

inline LaunchShape shape_of(const GridPlan& plan) {
  const auto extent = [](const Extent& e) { return dim3(e.x, e.y, e.z); };
  return {.grid = extent(plan.grid), .block = extent(plan.block), .smem = plan.smem};
}

}  // namespace fsv::cuda
