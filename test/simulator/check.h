// What the programs of tests/ and kernels/ share: run under several schedules, compare, count failures, and
// say by which check something was found: race, fence, bounds, alignment, uninitialised, protocol, deadlock,
// launch or values. What is no template stands in check.cpp: mutants are compiled by the hundred, and this is
// not.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "simulator/simulator.h"

namespace sim::check {

extern int checks, failures;

/// Prints a failure. With FSVIDEO_FIRST_FAILURE set it is the last one: a mutant is caught by then.
void fail_with(const std::string& text);

/// Notes a failure of a kind, told as printf does.
[[gnu::format(printf, 2, 3)]] void fail(const char* kind, const char* format, ...);

std::string name_of(const Options& options);

/// Schedules that between them provoke most of what depends on one; `seeds` of each random kind. FSVIDEO_SIM,
/// if set, is the only one.
std::vector<Options> schedules(uint64_t seeds = 1);

/// A launch without errors.
bool ok(const Report& report, const std::string& what);

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

bool equal(long long got, long long want, const std::string& what);

/// The end of main.
int finish(const char* name);

}  // namespace sim::check
