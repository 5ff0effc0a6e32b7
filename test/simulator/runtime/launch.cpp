// Kernels and the marks of guarded memory on their way to a simulated card, and what the counters saw.
#include <cstdio>
#include <mutex>

#include "simulator/runtime/cards.h"

namespace sim {

using namespace host;

namespace {

constexpr size_t kPlainSharedMemory = 48 << 10;

std::mutex counts_mutex;
Counts counts;

void add(const Report& report) {
  const std::lock_guard lock(counts_mutex);
  counts.launches++;
  counts.read += report.global_read;
  counts.written += report.global_written;
  for (const auto& [line, counter] : report.global)
    counts.sectors += counter.units, counts.least_sectors += counter.least;
  for (const auto& [line, counter] : report.shared)
    counts.wavefronts += counter.units, counts.least_wavefronts += counter.least;
}

}  // namespace

Counts count(bool on) {
  {
    const std::lock_guard lock(runtime().mutex);
    runtime().options.count = on;
  }
  const std::lock_guard lock(counts_mutex);
  return std::exchange(counts, {});
}

cudaError_t enqueue_guard(cudaStream_t stream, void* data, size_t bytes, int state) {
  return runtime().push(stream, {.run = [=] {
                          mark(data, bytes, static_cast<Mark>(state));
                          return cudaSuccess;
                        }});
}

cudaError_t enqueue_launch(const cudaLaunchConfig_t& config, const void* function,
                           std::function<void()> thread) {
  Runtime& r = runtime();
  const dim3 &grid = config.gridDim, &block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (!config.stream) return fail(cudaErrorInvalidResourceHandle);  // the legacy stream is nobody's friend
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 || !threads ||
      threads > 1024 || block.z > 64)
    return fail(cudaErrorInvalidValue);
  dim3 cluster(1, 1, 1);
  for (unsigned i = 0; i < config.numAttrs; i++)
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) {
      const auto& d = config.attrs[i].val.clusterDim;
      cluster = {d.x, d.y, d.z};
    }
  if (!cluster.x || !cluster.y || !cluster.z || grid.x % cluster.x || grid.y % cluster.y ||
      grid.z % cluster.z || cluster.x * cluster.y * cluster.z > 8)
    return fail(cudaErrorInvalidValue);
  size_t limit = kPlainSharedMemory;
  {
    std::lock_guard lock(r.mutex);
    if (const auto found = r.shared_limits.find(function); found != r.shared_limits.end())
      limit = found->second;
  }
  if (config.dynamicSmemBytes > limit) return fail(cudaErrorInvalidValue);
  auto run = [grid, block, cluster, smem = static_cast<uint32_t>(config.dynamicSmemBytes),
              thread = std::move(thread)] {
    if (runs_out(faults().launch)) return cudaErrorIllegalAddress;
    std::this_thread::sleep_for(std::chrono::microseconds(faults().launch_microseconds));
    Options options = runtime().options;
    options.seed += static_cast<uint64_t>(++faults().launched);
    const Report report = launch(grid, block, cluster, smem, options, thread);
    if (options.count) add(report);
    if (report.ok()) return cudaSuccess;
    std::fprintf(stderr, "simulator: %s\n", report.first().c_str());
    return cudaErrorLaunchFailure;
  };
  return r.push(config.stream, {.run = std::move(run)});
}

}  // namespace sim
