// Launches: the configuration's rules, the clusters of a grid one after another or over a few OS threads.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "simulator/engine/engine.h"

namespace sim {
namespace {

constexpr uint32_t kMostThreads = 1024, kMostBlocksOfCluster = 8;

std::string refusal(const Launch& launch) {
  const auto volume = [](dim3 d) { return uint64_t{d.x} * d.y * d.z; };
  if (volume(launch.grid) == 0 || volume(launch.block) == 0 || volume(launch.cluster) == 0)
    return "an empty launch";
  if (volume(launch.block) > kMostThreads) return "more than 1024 threads a block";
  if (launch.grid.y > 65535 || launch.grid.z > 65535 || launch.grid.x > 0x7fffffff)
    return "a grid that is too large";
  if (volume(launch.cluster) > kMostBlocksOfCluster) return "more than 8 blocks a cluster";
  if (launch.grid.x % launch.cluster.x || launch.grid.y % launch.cluster.y ||
      launch.grid.z % launch.cluster.z) {
    return "a grid that is no whole number of clusters";
  }
  if (launch.smem_bytes > launch.options.max_smem) return "too much shared memory";
  return "";
}

/// Clusters one after another, in order or shuffled. Shadows and their clocks serve one cluster at a time.
void run_checked(const Launch& launch, Report& report) {
  Engine engine(launch, report);
  const uint64_t clusters = launch.clusters();
  std::vector<uint32_t> order(clusters);
  for (uint32_t i = 0; i < clusters; i++) order[i] = i;
  if (launch.options.schedule != Schedule::order) {
    for (size_t i = clusters; i > 1; i--) std::swap(order[i - 1], order[engine.random() % i]);
  }
  for (uint32_t unit : order) {
    if (!engine.run(unit)) break;
  }
  if (launch.options.count) engine.report_counters();
}

void run_unchecked(const Launch& launch, Report& report) {
  const uint64_t clusters = launch.clusters();
  const auto threads =
      std::min<uint64_t>(clusters, static_cast<uint64_t>(std::max(1, launch.options.threads)));
  std::atomic<uint64_t> next = 0;
  std::vector<Report> reports(threads);
  const auto work = [&](Report& mine) {
    Engine engine(launch, mine);
    for (uint64_t unit; (unit = next++) < clusters;) {
      if (!engine.run(unit)) next = clusters;
    }
  };
  std::vector<std::thread> others;
  for (uint64_t i = 1; i < threads; i++) others.emplace_back(work, std::ref(reports[i]));
  work(reports[0]);
  for (std::thread& other : others) other.join();
  for (const Report& mine : reports) {
    report.errors.insert(report.errors.end(), mine.errors.begin(), mine.errors.end());
    report.switches += mine.switches;
    report.async_steps += mine.async_steps;
    report.wgmmas += mine.wgmmas;
  }
}

}  // namespace

Report launch(dim3 grid, dim3 block, dim3 cluster, uint32_t smem_bytes, const Options& options,
              const std::function<void()>& kernel) {
  static std::mutex one_checked;
  static uint32_t number = 0;
  Report report;
  Launch launch = {grid, block, cluster, smem_bytes, options, kernel, 0};
  if (const std::string text = refusal(launch); !text.empty()) {
    report.errors.push_back("launch: " + text);
  } else if (options.check) {
    std::lock_guard lock(one_checked);
    launch.number = ++number;
    run_checked(launch, report);
  } else {
    distrust_shadows();
    run_unchecked(launch, report);
  }
  return report;
}

Options Options::from_environment() {
  Options options;
  const char* text = std::getenv("FSVIDEO_SIM");
  std::string_view rest = text ? text : "";
  const auto bad = [&] {
    throw std::invalid_argument("FSVIDEO_SIM: cannot read \"" + std::string(text) + "\"");
  };
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) bad();
    const std::string_view name = item.substr(0, equals), value = item.substr(equals + 1);
    const auto number = [&]() -> long long {
      size_t used = 0;
      const std::string digits(value);
      long long result = 0;
      try {
        result = std::stoll(digits, &used);
      } catch (const std::exception&) {
      }
      if (used == 0 || used != digits.size()) bad();
      return result;
    };
    const auto one_of = [&](std::initializer_list<std::string_view> names) {
      const auto found = std::find(names.begin(), names.end(), value);
      if (found == names.end()) bad();
      return static_cast<int>(found - names.begin());
    };
    if (name == "seed") {
      options.seed = static_cast<uint64_t>(number());
    } else if (name == "schedule") {
      options.schedule = static_cast<Schedule>(one_of({"order", "warps", "lanes"}));
    } else if (name == "async") {
      options.async = static_cast<Async>(one_of({"eager", "lazy", "random"}));
    } else if (name == "check") {
      options.check = number() != 0;
    } else if (name == "count") {
      options.count = number() != 0;
    } else if (name == "fp8_bits") {
      options.fp8_bits = static_cast<int>(number());
    } else if (name == "threads") {
      options.threads = static_cast<int>(number());
    } else {
      bad();
    }
  }
  return options;
}

}  // namespace sim
