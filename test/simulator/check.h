// What the programs of tests/ and kernels/ share: run under several schedules, compare, count failures, and
// say by which check something was found: race, fence, bounds, alignment, uninitialised, protocol, deadlock,
// launch or values.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "simulator/simulator.h"

namespace sim::check {

inline int checks = 0, failures = 0;

/// Prints a failure. With FSVIDEO_FIRST_FAILURE set it is the last one: a mutant is caught by then.
inline void fail_with(const std::string& text) {
  failures++;
  std::printf("%s\n", text.c_str());
  if (!std::getenv("FSVIDEO_FIRST_FAILURE")) return;
  std::fflush(stdout);
  std::_Exit(1);
}

/// Notes a failure of a kind, told as printf does.
[[gnu::format(printf, 2, 3)]] inline void fail(const char* kind, const char* format, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fail_with(std::string(kind) + ": " + text);
}

inline const char* name_of(Schedule schedule) {
  return schedule == Schedule::order ? "order" : schedule == Schedule::warps ? "warps" : "lanes";
}
inline const char* name_of(Async async) {
  return async == Async::eager ? "eager" : async == Async::lazy ? "lazy" : "random";
}
inline std::string name_of(const Options& options) {
  return std::string("schedule=") + name_of(options.schedule) + ",async=" + name_of(options.async) +
         ",seed=" + std::to_string(options.seed);
}

/// Schedules that between them provoke most of what depends on one; `seeds` of each random kind. FSVIDEO_SIM,
/// if set, is the only one.
inline std::vector<Options> schedules(uint64_t seeds = 1) {
  if (std::getenv("FSVIDEO_SIM")) return {Options::from_environment()};
  std::vector<Options> all(2);
  all[0].async = Async::eager;
  all[1].async = Async::lazy;
  for (uint64_t seed = 1; seed <= seeds; seed++) {
    for (Schedule schedule : {Schedule::warps, Schedule::lanes}) {
      all.emplace_back();
      all.back().schedule = schedule;
      all.back().seed = seed;
    }
  }
  return all;
}

/// A launch without errors.
inline bool ok(const Report& report, const std::string& what) {
  checks++;
  if (report.ok()) return true;
  fail_with(report.first() + " (" + what + ")");
  return false;
}

/// |got - want| <= tolerance * (1 + |want|) everywhere.
template <class Got, class Want>
bool near(const Got& got, const Want& want, size_t count, double tolerance, const std::string& what) {
  checks++;
  size_t wrong = 0, first = 0;
  double worst = 0;
  for (size_t i = 0; i < count; i++) {
    const double error = std::fabs(double(got[i]) - double(want[i])) / (1 + std::fabs(double(want[i])));
    if (error <= tolerance) continue;
    if (!wrong++) first = i;
    if (!(error <= worst)) worst = error;
  }
  if (!wrong) return true;
  fail("values", "%s: %zu of %zu, first [%zu] %g instead of %g, worst error %g", what.c_str(), wrong, count,
       first, double(got[first]), double(want[first]), worst);
  return false;
}

inline bool equal(long long got, long long want, const std::string& what) {
  checks++;
  if (got == want) return true;
  fail("values", "%s: %lld instead of %lld", what.c_str(), got, want);
  return false;
}

/// The end of main.
inline int finish(const char* name) {
  std::printf("%s: %d checks, %d failed\n", name, checks, failures);
  return failures ? 1 : 0;
}

}  // namespace sim::check
