// The engine runs one cluster of a grid (most often one block) at a time: its threads as fibers on one OS
// thread, its asynchronous units as a queue of operations. Each instruction is a function of units.h, in a
// file by theme here; they share what this class offers: scheduling, clocks, checked memory, and the report.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "simulator/engine/counters.h"
#include "simulator/engine/global.h"
#include "simulator/engine/parts.h"
#include "simulator/simulator.h"
#include "simulator/units.h"

namespace sim {

/// "file.cpp:12".
std::string to_string(Location at);

/// Unwinds a kernel after an error.
struct Aborted {};

struct Launch {
  dim3 grid, block, cluster;
  uint32_t smem_bytes;
  const Options& options;
  const std::function<void()>& kernel;
  uint32_t number;  // of the checked launches of this process

  uint32_t threads() const { return block.x * block.y * block.z; }
  uint32_t cluster_size() const { return cluster.x * cluster.y * cluster.z; }
  uint64_t clusters() const { return uint64_t{grid.x} * grid.y * grid.z / cluster_size(); }
};

class Engine {
 public:
  Engine(const Launch& launch, Report& report);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Runs cluster number `unit` of the grid; false after an error.
  bool run(uint64_t unit);

  /// The engine and the thread of whoever calls.
  static Engine& current();
  static Thread& thread() { return *current().running_; }

  const Options& options() const { return launch_.options; }
  const Launch& launch() const { return launch_; }
  bool checking() const { return launch_.options.check; }
  bool random_schedule() const { return options().schedule != Schedule::order; }
  uint64_t random();

  // ---- scheduling (scheduler.cpp)
  /// The running thread gives way until somebody wakes it.
  void suspend(const char* waits_for, Location at, uint32_t detail0 = 0, uint32_t detail1 = 0);
  void wake(Thread& thread);
  void wake(Warp& warp, uint32_t lanes);
  void wake(std::vector<Thread*>& waiting);
  /// Perhaps lets others go first: before every step that others can see.
  void give_way(Location at);
  /// The same of a thread that asks again and again; fails when that changes nothing for long.
  void spin(const char* waits_for, Location at, uint32_t detail0, uint32_t detail1);
  void issue(std::unique_ptr<Operation> operation);
  std::vector<Thread>& threads() { return threads_; }
  std::vector<Block>& blocks() { return blocks_; }
  ClusterBarrier& cluster_barrier() { return cluster_barrier_; }
  int live_threads() const { return live_; }

  // ---- what lanes do together (collective.cpp)
  /// Waits for the lanes of `mask`. The last of them gets the collective, does the work for all and calls
  /// part(); the others get null once that is done.
  Collective* meet(uint32_t mask, const char* name, void* argument, Location at);
  void part(Collective& collective);
  /// The same of the 128 threads of a warpgroup.
  Warpgroup* meet_warpgroup(const char* name, const void* argument, Location at);
  void part(Warpgroup& warpgroup);

  // ---- clocks
  Agent new_agent(std::string name);
  void release(Thread& thread, Clock& into);
  void acquire(Thread& thread, const Clock& from);
  void saw(Thread& thread, Agent agent, uint32_t tick);

  // ---- memory (memory.cpp)
  uint32_t base() const { return base_; }
  /// The block whose shared memory a 32-bit address means, and the offset there.
  Block& block_at(uint32_t address, uint32_t& offset, Location at);
  /// Whether [offset, offset + bytes) is the kernel's shared memory.
  bool inside(uint32_t offset, uint64_t bytes) const;
  /// Checks and records an access to shared memory.
  void touch_shared(Block& block, uint32_t offset, uint32_t bytes, Touch touch, Location at,
                    const char* what);
  /// The same of global memory; `what` names the operation.
  void touch_global(const void* p, uint64_t bytes, Touch touch, Location at, const char* what);
  Touch ordinary(bool write, Location at);  // by the running thread
  MBarrier& mbarrier(uint32_t address, Location at, bool by_copies = false);
  MBarrier& mbarrier(Block& block, uint32_t offset, Location at, bool by_copies);
  void complete(MBarrier& barrier, Location at);  // ends its phase if nothing is missing
  void owe(Block& block, Agent agent, uint32_t tick, Location at);

  // ---- report (report.cpp)
  /// Notes an error of a kind (race, fence, bounds, ...) and ends the run.
  [[noreturn]] [[gnu::format(printf, 4, 5)]] void fail(Location at, const char* kind, const char* format,
                                                       ...);
  [[noreturn]] void fail(Location at, const char* what, bool global, const Violation& violation);
  std::string shared_name(uint32_t offset) const;
  Report& report() { return report_; }
  void count_lane(bool global, Location at, uint64_t address, uint32_t bytes);
  void count_warp(Location at, const uint64_t* addresses, int n, uint32_t bytes);
  void count_row(Location at, const void* p, uint64_t bytes);
  void report_counters();

 private:
  void prepare(uint64_t unit);
  void schedule();
  void run_operation();
  void resume(Warp& warp, uint32_t lanes);
  Thread* next_in_batch();
  void finish_unit();
  void end_thread(Thread& thread);
  void report_deadlock();
  uint16_t site(Location at);
  std::string site_name(uint16_t site) const;
  std::string agent_name(Agent agent) const;
  std::string describe_wait(const Thread& thread) const;
  static void thread_main();

  Launch launch_;
  Report& report_;
  Counters counters_;
  uint64_t random_state_;
  uint32_t unit_ = 0;
  uint32_t base_ = 0;

  Fiber scheduler_;
  Stacks stacks_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  std::vector<Block> blocks_;
  ClusterBarrier cluster_barrier_;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<Warp*> active_;  // warps with runnable lanes
  Thread* running_ = nullptr;
  Warp* batch_warp_ = nullptr;  // lanes that the scheduler has picked and not yet run
  uint32_t batch_ = 0;
  bool batch_down_ = false;
  int live_ = 0;
  uint64_t steps_ = 0;
  uint32_t spins_ = 0;  // since anything else happened
  bool failed_ = false;

  std::vector<std::string> agents_;  // names of those that are no threads
  std::vector<Location> sites_;
  uint16_t recent_sites_[256] = {};  // by a hash of the location
  AllocationCache allocations_;
};

}  // namespace sim
