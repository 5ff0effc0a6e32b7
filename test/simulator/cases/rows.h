// What the tests of the memory-bound kernels share. Values in every dtype and shape are the business of the
// op tests; these programs run a kernel under several schedules with the checkers on, and count what it
// moves.
#pragma once

#include "cuda/launch/rows_plan.h"
#include "ops/ops.h"
#include "simulator/check.h"

namespace rows {

using fsv::Bf16;
using sim::Global;

float uniform();

template <class T>
std::vector<T> random(int64_t size, float scale = 1, float shift = 0) {
  std::vector<T> values(static_cast<size_t>(size));
  for (T& v : values) v = fsv::from_float<T>(uniform() * scale + shift);
  return values;
}

template <class T>
std::vector<double> exact(const std::vector<T>& values) {
  std::vector<double> wide;
  for (const T& v : values) wide.push_back(static_cast<double>(fsv::to_float(v)));
  return wide;
}
template <class T>
std::vector<double> exact(Global<T>& values) {
  return exact(std::vector<T>(values.ptr(), values.ptr() + values.size()));
}

/// Half a unit of the last place that T keeps, with room for f32 arithmetic before it.
template <class T>
inline constexpr double kTolerance = sizeof(T) == 2 ? 0x1.2p-8 : 0x1p-19;

/// Rows of fp8 and the scales of their groups stand for what is wanted, as near as three bits behind the
/// first allow, and every group uses all of fp8's range.
void near_fp8(Global<fsv::F8e4m3>& codes, Global<float>& scales, const std::vector<double>& want,
              int64_t channels, const std::string& what);

template <class... Parameters, class... Arguments>
sim::Report launch(void (*kernel)(Parameters...), const fsv::cuda::GridPlan& plan,
                   const sim::Options& options, Arguments... arguments) {
  const auto extent = [](const fsv::cuda::Extent& e) { return dim3(e.x, e.y, e.z); };
  return sim::launch(extent(plan.grid), extent(plan.block), dim3(), static_cast<uint32_t>(plan.smem), options,
                     [=] { kernel(arguments...); });
}

/// Of all lines of source.
sim::Counter sum_of(const std::map<std::string, sim::Counter>& counters);

/// Shared memory is moved in no more wavefronts than `share` of those that hold what is asked for.
void on_all_banks(const sim::Report& report, double share, const std::string& what);

/// Global memory is touched for `bytes` bytes, in no more sectors than hold them, and shared memory in no
/// more wavefronts than hold what is asked for; each but for 5 %.
void cheap(const sim::Report& report, int64_t bytes, const std::string& what);

sim::Options counting();

}  // namespace rows
