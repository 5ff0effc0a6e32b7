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

inline float uniform() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
}

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
inline void near_fp8(Global<fsv::F8e4m3>& codes, Global<float>& scales, const std::vector<double>& want,
                     int64_t channels, const std::string& what) {
  const int64_t groups = (channels + fsv::kScaleGroup - 1) / fsv::kScaleGroup;
  std::vector<double> largest(scales.size());
  for (size_t i = 0; i < want.size(); i++) {
    const auto at = static_cast<int64_t>(i);
    const auto group = static_cast<size_t>(at / channels * groups + at % channels / fsv::kScaleGroup);
    const double scale = scales.ptr()[group], got = fsv::to_float(codes.ptr()[i]) * scale;
    largest[group] = std::max(largest[group], std::abs(want[i]));
    sim::check::checks++;
    if (std::abs(got - want[i]) <= 0x1.02p-4 * std::abs(want[i]) + 0x1.02p-10 * scale) continue;
    return sim::check::fail("values", "%s: element %zu is %g, not %g", what.c_str(), i, got, want[i]);
  }
  for (size_t group = 0; group < largest.size(); group++) {
    if (std::abs(scales.ptr()[group] * 448 - largest[group]) <= 1e-4 * largest[group]) continue;
    return sim::check::fail("values", "%s: scale %zu is %g, the largest %g", what.c_str(), group,
                            static_cast<double>(scales.ptr()[group]), largest[group]);
  }
}

template <class... Parameters, class... Arguments>
sim::Report launch(void (*kernel)(Parameters...), const fsv::cuda::GridPlan& plan,
                   const sim::Options& options, Arguments... arguments) {
  const auto extent = [](const fsv::cuda::Extent& e) { return dim3(e.x, e.y, e.z); };
  return sim::launch(extent(plan.grid), extent(plan.block), dim3(), static_cast<uint32_t>(plan.smem), options,
                     [=] { kernel(arguments...); });
}

/// Of all lines of source.
inline sim::Counter sum_of(const std::map<std::string, sim::Counter>& counters) {
  sim::Counter sum;
  for (const auto& [site, counter] : counters)
    sum.bytes += counter.bytes, sum.units += counter.units, sum.least += counter.least;
  return sum;
}

/// Shared memory is moved in no more wavefronts than `share` of those that hold what is asked for.
inline void on_all_banks(const sim::Report& report, double share, const std::string& what) {
  const sim::Counter shared = sum_of(report.shared);
  sim::check::checks++;
  if (static_cast<double>(shared.units) > share * static_cast<double>(shared.least))
    sim::check::fail("banks", "%s: %llu wavefronts, %llu would do", what.c_str(),
                     static_cast<unsigned long long>(shared.units),
                     static_cast<unsigned long long>(shared.least));
}

/// Global memory is touched for `bytes` bytes, in no more sectors than hold them, and shared memory in no
/// more wavefronts than hold what is asked for; each but for 5 %.
inline void cheap(const sim::Report& report, int64_t bytes, const std::string& what) {
  if (!sim::check::ok(report, what)) return;
  const sim::Counter global = sum_of(report.global), shared = sum_of(report.shared);
  const auto within = [&](uint64_t got, uint64_t least, const char* of) {
    sim::check::checks++;
    if (static_cast<double>(got) > 1.05 * static_cast<double>(least))
      sim::check::fail("values", "%s: %llu %s, %llu would do", what.c_str(),
                       static_cast<unsigned long long>(got), of, static_cast<unsigned long long>(least));
  };
  within(global.bytes, static_cast<uint64_t>(bytes), "bytes of global memory");
  within(global.units, global.least, "sectors");
  within(shared.units, shared.least, "wavefronts");
}

inline sim::Options counting() {
  sim::Options options;
  options.count = true;
  return options;
}

}  // namespace rows
