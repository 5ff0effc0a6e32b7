// What the attention tests ask of every launch, besides no error: no bank conflict, and numbers at most twice
// as far from the truth as a plain implementation's (the rule of test/numbers.ts).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "simulator/check.h"

namespace fsv::test {

/// Those of check.h; accesses are counted where lanes run in order.
inline std::vector<sim::Options> schedules() {
  std::vector<sim::Options> all = sim::check::schedules();
  for (sim::Options& options : all) options.count = options.schedule == sim::Schedule::order;
  return all;
}

/// No error, and no access to shared memory that takes longer than its bytes need.
inline bool sound(const sim::Report& report, const std::string& what) {
  if (!sim::check::ok(report, what)) return false;
  for (const auto& [where, count] : report.shared) {
    if (count.units <= count.least) continue;
    sim::check::fail("values", "%s: %llu wavefronts for %llu at %s", what.c_str(),
                     static_cast<unsigned long long>(count.units),
                     static_cast<unsigned long long>(count.least), where.c_str());
    return false;
  }
  return true;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  sim::check::checks++;
  if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0) return true;
  sim::check::fail("values", "%s: other bits", what.c_str());
  return false;
}

/// At most twice the error of `plain`, at the worst element and on the whole.
template <class T>
bool accurate(const std::vector<T>& out, const std::vector<double>& truth, const std::vector<float>& plain,
              const std::string& what) {
  sim::check::checks++;
  double largest = 0, allowed = 0, squares = 0, allowed_squares = 0, magnitude = 0;
  for (size_t i = 0; i < truth.size(); i++) {
    const double ours = std::fabs(to_float(out[i]) - truth[i]), theirs = std::fabs(plain[i] - truth[i]);
    const double error = ours == ours ? ours : INFINITY;
    largest = std::max(largest, error), allowed = std::max(allowed, theirs);
    squares += error * error, allowed_squares += theirs * theirs;
    magnitude = std::max(magnitude, std::fabs(truth[i]));
  }
  const double n = static_cast<double>(std::max<size_t>(truth.size(), 1)), unit = magnitude * 0x1p-23;
  const double mean = std::sqrt(squares / n), allowed_mean = std::sqrt(allowed_squares / n);
  if (largest <= 2 * allowed + unit && mean <= 2 * allowed_mean + unit) return true;
  sim::check::fail("values", "%s: error %.3g (rms %.3g), plain %.3g (rms %.3g)", what.c_str(), largest, mean,
                   allowed, allowed_mean);
  return false;
}

}  // namespace fsv::test
