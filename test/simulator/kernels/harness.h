// What the kernel tests have in common: the orders of events in which a case runs, the rule by which numbers
// are judged, and the words in which a test says what went wrong.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "simulator/simulator.h"

namespace fsv::test {

/// A case runs under all of them.
struct Order {
  const char* name;
  sim::Schedule schedule;
  sim::Async async;
  uint64_t seed;

  sim::Options options() const {
    sim::Options options;
    options.schedule = schedule, options.async = async, options.seed = seed;
    options.count = schedule == sim::Schedule::order;
    return options;
  }
};
inline constexpr Order kOrders[] = {
    {"in order, eager", sim::Schedule::order, sim::Async::eager, 1},
    {"in order, lazy", sim::Schedule::order, sim::Async::lazy, 2},
    {"random warps", sim::Schedule::warps, sim::Async::random, 3},
    {"random lanes", sim::Schedule::lanes, sim::Async::random, 4},
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Counts and prints what goes wrong.
class Verdict {
 public:
  void fail(const std::string& what, const std::string& why) {
    failures_++;
    std::printf("%s: %s\n", what.c_str(), why.c_str());
  }
  int exit_code() const { return failures_ ? 1 : 0; }

 private:
  int failures_ = 0;
};

/// What a simulated launch did wrong, bank conflicts included, or nothing.
inline std::string complaint(const sim::Report& report) {
  if (!report.ok()) return report.first();
  for (const auto& [where, count] : report.shared)
    if (count.units > count.least)
      return "BANKS " + std::to_string(count.units) + " wavefronts for " + std::to_string(count.least) +
             " at " + where;
  return "";
}

/// The rule of test/numbers.ts: at most twice the error of a plain implementation, at the worst element and
/// on the whole. Says what is wrong, or nothing.
template <class T>
std::string judge(const std::vector<T>& out, const std::vector<double>& truth,
                  const std::vector<float>& plain) {
  double largest = 0, allowed = 0, squares = 0, allowed_squares = 0, magnitude = 0;
  for (size_t i = 0; i < truth.size(); i++) {
    const double ours = std::fabs(to_float(out[i]) - truth[i]), theirs = std::fabs(plain[i] - truth[i]);
    const double e = ours == ours ? ours : INFINITY;
    largest = std::max(largest, e), allowed = std::max(allowed, theirs);
    squares += e * e, allowed_squares += theirs * theirs;
    magnitude = std::max(magnitude, std::fabs(truth[i]));
  }
  const double n = static_cast<double>(std::max<size_t>(truth.size(), 1)), unit = magnitude * 0x1p-23;
  const double mean = std::sqrt(squares / n), allowed_mean = std::sqrt(allowed_squares / n);
  if (largest <= 2 * allowed + unit && mean <= 2 * allowed_mean + unit) return "";
  char text[200];
  std::snprintf(text, sizeof text, "VALUES error %.3g (rms %.3g), plain %.3g (rms %.3g)", largest, mean,
                allowed, allowed_mean);
  return text;
}

}  // namespace fsv::test
