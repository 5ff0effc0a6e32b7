#include "simulator/cases/rows.h"

#include <algorithm>
#include <cmath>

namespace rows {

float uniform() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
}

void near_fp8(Global<fsv::F8e4m3>& codes, Global<float>& scales, const std::vector<double>& want,
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

sim::Counter sum_of(const std::map<std::string, sim::Counter>& counters) {
  sim::Counter sum;
  for (const auto& [site, counter] : counters)
    sum.bytes += counter.bytes, sum.units += counter.units, sum.least += counter.least;
  return sum;
}

void on_all_banks(const sim::Report& report, double share, const std::string& what) {
  const sim::Counter shared = sum_of(report.shared);
  sim::check::checks++;
  if (static_cast<double>(shared.units) > share * static_cast<double>(shared.least))
    sim::check::fail("banks", "%s: %llu wavefronts, %llu would do", what.c_str(),
                     static_cast<unsigned long long>(shared.units),
                     static_cast<unsigned long long>(shared.least));
}

void cheap(const sim::Report& report, int64_t bytes, const std::string& what) {
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

sim::Options counting() {
  sim::Options options;
  options.count = true;
  return options;
}

}  // namespace rows
