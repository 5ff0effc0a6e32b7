#include "simulator/check.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace sim::check {
namespace {

const char* name_of(Schedule schedule) {
  return schedule == Schedule::order ? "order" : schedule == Schedule::warps ? "warps" : "lanes";
}
const char* name_of(Async async) {
  return async == Async::eager ? "eager" : async == Async::lazy ? "lazy" : "random";
}

}  // namespace

int checks = 0, failures = 0;

void fail_with(const std::string& text) {
  failures++;
  std::printf("%s\n", text.c_str());
  if (!std::getenv("FSVIDEO_FIRST_FAILURE")) return;
  std::fflush(stdout);
  std::_Exit(1);
}

void fail(const char* kind, const char* format, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fail_with(std::string(kind) + ": " + text);
}

std::string name_of(const Options& options) {
  return std::string("schedule=") + name_of(options.schedule) + ",async=" + name_of(options.async) +
         ",seed=" + std::to_string(options.seed);
}

std::vector<Options> schedules(uint64_t seeds) {
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

bool ok(const Report& report, const std::string& what) {
  checks++;
  if (report.ok()) return true;
  fail_with(report.first() + " (" + what + ")");
  return false;
}

bool equal(long long got, long long want, const std::string& what) {
  checks++;
  if (got == want) return true;
  fail("values", "%s: %lld instead of %lld", what.c_str(), got, want);
  return false;
}

int finish(const char* name) {
  std::printf("%s: %d checks, %d failed\n", name, checks, failures);
  return failures ? 1 : 0;
}

}  // namespace sim::check
