// Who runs next: threads by warps, in order or at random, and between them the asynchronous operations.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <tuple>
#include <utility>

#include "simulator/engine/engine.h"

constinit thread_local uint3 threadIdx{}, blockIdx{};
constinit thread_local dim3 blockDim, gridDim;

namespace sim {
namespace {

constinit thread_local Engine* current_engine = nullptr;

constexpr uint32_t kWarpLanes = 32, kWarpgroupThreads = 128;
constexpr uint32_t kSystemSmem = 1024;  // before a block's own shared memory
constexpr int kOneIn = 8;               // steps of the random schedule are asynchronous operations
constexpr uint32_t kMostSpins = 1 << 18;

uint3 place_in(uint32_t index, dim3 extents) {
  return {index % extents.x, index / extents.x % extents.y, index / extents.x / extents.y};
}

/// The n-th set bit alone.
uint32_t nth_bit(uint32_t mask, uint64_t n) {
  while (n--) mask &= mask - 1;
  return mask & -mask;
}

}  // namespace

Engine::Engine(const Launch& launch, Report& report)
    : launch_(launch),
      report_(report),
      random_state_(launch.options.seed * 0x9E3779B97F4A7C15ull + 0x1234567),
      stacks_(launch.threads() * launch.cluster_size(), launch.options.stack) {
  const uint32_t block_threads = launch.threads(), cluster_size = launch.cluster_size();
  const uint32_t block_warps = (block_threads + kWarpLanes - 1) / kWarpLanes;
  const uint32_t block_groups = block_threads / kWarpgroupThreads;
  threads_.resize(block_threads * cluster_size);
  warps_.resize(block_warps * cluster_size);
  warpgroups_ = std::vector<Warpgroup>(block_groups * cluster_size);
  blocks_ = std::vector<Block>(cluster_size);
  for (uint32_t i = 0; i < threads_.size(); i++) {
    const uint32_t rank = i / block_threads, inside = i % block_threads;
    Thread& thread = threads_[i];
    thread.index = static_cast<int>(i);
    thread.rank = static_cast<int>(inside);
    thread.lane = static_cast<int>(inside % kWarpLanes);
    thread.block = &blocks_[rank];
    thread.warp = &warps_[rank * block_warps + inside / kWarpLanes];
    thread.place = place_in(inside, launch.block);
    const uint32_t group = inside / kWarpgroupThreads;
    thread.warpgroup = group < block_groups ? &warpgroups_[rank * block_groups + group] : nullptr;
  }
  for (uint32_t i = 0; i < warps_.size(); i++) {
    const uint32_t first = i % block_warps * kWarpLanes, lanes = std::min(kWarpLanes, block_threads - first);
    warps_[i].index = static_cast<int>(i);
    warps_[i].block = &blocks_[i / block_warps];
    warps_[i].threads = &threads_[i / block_warps * block_threads + first];
    warps_[i].lanes = lanes == kWarpLanes ? ~0u : (1u << lanes) - 1;
  }
  for (uint32_t i = 0; i < warpgroups_.size(); i++) {
    warpgroups_[i].index = static_cast<int>(i);
    warpgroups_[i].threads =
        &threads_[i / block_groups * block_threads + i % block_groups * kWarpgroupThreads];
  }
}

Engine& Engine::current() { return *current_engine; }

uint64_t Engine::random() {
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  return random_state_ * 0x2545F4914F6CDD1Dull >> 16;
}

/// A fresh cluster: everything as a launch leaves it.
void Engine::prepare(uint64_t unit) {
  unit_ = static_cast<uint32_t>(unit) + 1;
  base_ = kSystemSmem + 16 * static_cast<uint32_t>(1 + random() % 7);  // aligned to 16 bytes and no more
  agents_.clear();
  operations_.clear();
  active_.clear();
  steps_ = 0;
  spins_ = 0;
  live_ = static_cast<int>(threads_.size());
  cluster_barrier_ = ClusterBarrier();
  cluster_barrier_.missing = live_;

  const uint32_t threads = launch_.threads();
  const int registers =
      options().registers ? options().registers : static_cast<int>(std::min(256u, 65536 / threads / 8 * 8));
  const dim3 clusters(launch_.grid.x / launch_.cluster.x, launch_.grid.y / launch_.cluster.y,
                      launch_.grid.z / launch_.cluster.z);
  const uint3 first = place_in(static_cast<uint32_t>(unit), clusters);
  for (size_t rank = 0; rank < blocks_.size(); rank++) {
    Block& block = blocks_[rank];
    const uint3 inside = place_in(static_cast<uint32_t>(rank), launch_.cluster);
    block.place = {first.x * launch_.cluster.x + inside.x, first.y * launch_.cluster.y + inside.y,
                   first.z * launch_.cluster.z + inside.z};
    block.rank = static_cast<int>(rank);
    block.live = static_cast<int>(threads);
    block.smem.assign(base_ + launch_.smem_bytes, 0xFF);  // NaN, as bfloat16 and as float
    if (checking()) block.shadow.reset(block.smem.size());
    for (NamedBarrier& barrier : block.barriers) barrier = NamedBarrier();
    block.mbarriers.clear();
    block.free_registers = 0;
    block.register_waiters.clear();
    block.ended.clear();
    block.debts.clear();
  }
  for (Warpgroup& group : warpgroups_) {
    Warpgroup fresh;
    fresh.index = group.index;
    fresh.threads = group.threads;
    group = std::move(fresh);
  }
  for (Warp& warp : warps_) {
    warp.runnable = 0;
    warp.stalled_until = 0;
    warp.registers = registers;
    for (Collective& collective : warp.collectives) collective.mask = 0;
  }
  for (Thread& thread : threads_) {
    thread.done = thread.cluster_arrived = thread.waits_for_copies = false;
    thread.accumulators_fenced = thread.fragments_fenced = false;
    thread.cluster_phase = 0;
    thread.waits_for = "its start";
    thread.at = {"kernel", 0};
    thread.clock.clear();
    if (checking()) thread.clock.seen.raise(thread.agent(), 1);
    thread.version = 0;
    thread.bulk = CopyGroups();
    thread.copies = CopyGroups();
    make_fiber(thread, stacks_[static_cast<size_t>(thread.index)], stacks_.bytes(), thread_main);
    wake(thread);
  }
}

bool Engine::run(uint64_t unit) {
  Engine* const outer = std::exchange(current_engine, this);
  const auto places = std::tuple(threadIdx, blockIdx, blockDim, gridDim);
  blockDim = launch_.block;
  gridDim = launch_.grid;
  try {
    prepare(unit);
    schedule();
    if (!failed_) finish_unit();
  } catch (const Aborted&) {
  }
  counters_.flush();
  std::tie(threadIdx, blockIdx, blockDim, gridDim) = places;
  current_engine = outer;
  return !failed_;
}

void Engine::schedule() {
  while (live_ && !failed_) {
    steps_++;
    const bool some_work = !operations_.empty();
    const bool any_time = options().async == Async::random || spins_;
    if (some_work && (active_.empty() || (any_time && random() % kOneIn == 0))) {
      run_operation();
      continue;
    }
    if (active_.empty()) return report_deadlock();
    if (!random_schedule()) {
      std::rotate(active_.begin(), active_.begin() + 1, active_.end());
      resume(*active_.back(), active_.back()->runnable);
      continue;
    }
    if (random() % 64 == 0)
      warps_[random() % warps_.size()].stalled_until = steps_ + random() % 400;  // a slow warp
    Warp* warp = active_[random() % active_.size()];
    for (int tries = 0; tries < 4 && warp->stalled_until > steps_; tries++)
      warp = active_[random() % active_.size()];
    uint32_t lanes = warp->runnable;
    if (options().schedule == Schedule::lanes) {
      lanes = nth_bit(lanes, random() % static_cast<uint64_t>(std::popcount(lanes)));
    }
    batch_down_ = random() % 2;
    resume(*warp, lanes);
  }
}

/// Runs the lanes, one after another, each until it has to wait.
void Engine::resume(Warp& warp, uint32_t lanes) {
  batch_warp_ = &warp;
  batch_ = lanes;
  if (Thread* thread = next_in_batch()) switch_fiber(scheduler_, *thread);
  running_ = nullptr;
}

Thread* Engine::next_in_batch() {
  if (!batch_ || failed_) return nullptr;
  const int lane = batch_down_ ? 31 - std::countl_zero(batch_) : std::countr_zero(batch_);
  batch_ &= ~(1u << lane);
  Warp& warp = *batch_warp_;
  warp.runnable &= ~(1u << lane);
  if (!warp.runnable) active_.erase(std::find(active_.begin(), active_.end(), &warp));
  Thread& thread = warp.threads[lane];
  running_ = &thread;
  threadIdx = thread.place;
  blockIdx = thread.block->place;
  report_.switches++;
  return &thread;
}

void Engine::suspend(const char* waits_for, Location at, uint32_t detail0, uint32_t detail1) {
  Thread& self = *running_;
  self.waits_for = waits_for;
  self.detail[0] = detail0;
  self.detail[1] = detail1;
  self.at = at;
  Thread* next = next_in_batch();
  if (next != &self) switch_fiber(self, next ? static_cast<Fiber&>(*next) : scheduler_);
}

void Engine::wake(Thread& thread) { wake(*thread.warp, 1u << thread.lane); }

void Engine::wake(Warp& warp, uint32_t lanes) {
  if (!warp.runnable && lanes) active_.push_back(&warp);
  warp.runnable |= lanes;
}

void Engine::wake(std::vector<Thread*>& waiting) {
  if (waiting.empty()) return;
  spins_ = 0;
  for (Thread* thread : waiting) wake(*thread);
  waiting.clear();
}

void Engine::give_way(Location at) {
  if (!random_schedule() || random() % 4) return;
  wake(*running_);
  suspend("its turn", at);
}

void Engine::spin(const char* waits_for, Location at, uint32_t detail0, uint32_t detail1) {
  if (++spins_ > kMostSpins) {
    running_->waits_for = waits_for;
    running_->at = at;
    report_deadlock();
    throw Aborted();
  }
  wake(*running_);
  suspend(waits_for, at, detail0, detail1);
}

void Engine::issue(std::unique_ptr<Operation> operation) {
  if (options().async == Async::eager) {
    while (!operation->step(*this)) {
    }
    return;
  }
  operation->reluctance = static_cast<uint8_t>(random() % 8);
  operations_.push_back(std::move(operation));
}

/// One step of the least reluctant of a few operations: some are put off until nothing else can go on.
void Engine::run_operation() {
  report_.async_steps++;
  spins_ = 0;
  size_t chosen = random() % operations_.size();
  for (int i = 0; i < 3; i++) {
    const size_t other = random() % operations_.size();
    if (operations_[other]->reluctance < operations_[chosen]->reluctance) chosen = other;
  }
  Operation* operation = operations_[chosen].get();
  if (!operation->step(*this)) return;
  // The step may have issued others, but moved none.
  operations_[chosen] = std::move(operations_.back());
  operations_.pop_back();
}

void Engine::thread_main() {
  Engine& engine = *current_engine;
  entered_fiber(engine.scheduler_);
  Thread& self = *engine.running_;
  try {
    engine.launch_.kernel();
    engine.end_thread(self);
  } catch (const Aborted&) {
  } catch (const std::exception& error) {
    engine.report_.errors.push_back(std::string("exception: ") + error.what());
    engine.failed_ = true;
  }
  Thread* next = engine.next_in_batch();
  switch_fiber(self, next ? static_cast<Fiber&>(*next) : engine.scheduler_, true);
  std::abort();
}

}  // namespace sim
