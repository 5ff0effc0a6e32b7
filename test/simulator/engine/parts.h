// The parts of a simulated cluster: threads, warps, warpgroups, blocks and what they wait on.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "simulator/engine/clock.h"
#include "simulator/engine/fiber.h"
#include "simulator/engine/operation.h"
#include "simulator/engine/shadow.h"

namespace sim {

struct Block;
struct Warp;
struct Warpgroup;

/// A thread's asynchronous copies, in groups that it commits and waits for in order.
struct CopyGroups {
  struct Group {
    int reading = 0, unfinished = 0;
  };
  uint32_t first = 1, committed = 0;  // groups are numbered from 1; the front of `open` is number `first`
  std::deque<Group> open;
  uint32_t waited = 0;
  Agent reader = kNobody, writer = kNobody;

  Group& group(uint32_t number);
  bool pending(uint32_t number, bool only_reads) const;  // any up to `number`
  void retire();
  uint32_t target(int pending) const;  // all but the latest `pending` groups
};

struct Thread : Fiber {
  int index = 0, lane = 0;  // in the cluster, in the warp
  Block* block = nullptr;
  Warp* warp = nullptr;
  Warpgroup* warpgroup = nullptr;
  int rank = 0;  // in the block
  uint3 place{};
  bool done = false;

  const char* waits_for = "its start";
  uint32_t detail[2] = {};
  Location at{"kernel", 0};

  Clock clock;
  uint64_t version = 0;                                        // of the clock
  bool accumulators_fenced = false, fragments_fenced = false;  // towards wgmma
  bool cluster_arrived = false;
  bool waits_for_copies = false;
  uint32_t cluster_phase = 0;
  CopyGroups bulk, copies;

  Agent agent() const { return static_cast<Agent>(index); }
  uint32_t tick() const { return clock.seen[agent()]; }
};

/// Something that lanes of a warp do together: the last to come does it for all.
struct Collective {
  uint32_t mask = 0, arrived = 0;  // mask 0: free
  const char* name = nullptr;
  Location at{};
  void* argument[32] = {};
};

struct Warp {
  int index = 0;  // in the cluster
  Block* block = nullptr;
  Thread* threads = nullptr;
  uint32_t lanes = ~0u, runnable = 0;
  uint64_t stalled_until = 0;
  int registers = 0;  // a thread's
  Collective collectives[4];
};

/// An accumulator that belongs to the tensor cores: the values, and where the threads keep theirs.
struct Accumulator {
  int n = 0;
  std::vector<float> values;  // [64][n]
  float* registers[128] = {};
  uint32_t last_group = 0;
  bool returned[128] = {};
  int returned_count = 0;
};

struct Warpgroup {
  int index = 0;  // in the cluster
  Thread* threads = nullptr;
  int arrived = 0;
  const char* name = nullptr;
  Location at{};
  const void* argument[128] = {};
  Agent agent = kNobody;
  uint32_t committed = 0, waited[128] = {};
  std::map<float*, Accumulator> accumulators;
  std::deque<uint32_t> unfinished;                // the groups of its products, oldest first
  std::deque<std::unique_ptr<Operation>> queued;  // all but the oldest, which the scheduler has
  std::vector<Thread*> waiting;
  Clock common;  // what all threads have seen
  uint64_t common_version = ~uint64_t{0};

  uint32_t finished() const { return unfinished.empty() ? committed : unfinished.front() - 1; }  // groups
};

struct NamedBarrier {
  int expected = 0, arrived = 0;
  Clock arrivals;
  std::vector<Thread*> waiting;
};

struct ClusterBarrier {
  uint32_t phase = 0;
  int missing = 0;
  Clock arrivals, released;
  std::vector<Thread*> waiting;
};

struct MBarrier {
  uint32_t offset = 0, count = 0, pending = 0;
  uint32_t phase = 0;          // since its init
  uint32_t phases_before = 0;  // of earlier lives of the same address
  int64_t bytes = 0;           // announced and not yet there
  bool live = false, fenced = false;
  Agent agent = kNobody;  // of the copies that report here; its clock counts phases
  Agent initialiser = kNobody;
  uint32_t init_tick = 0;
  Clock arrivals, released;
  std::vector<Thread*> waiting;

  uint32_t tick() const { return phases_before + phase + 1; }  // of copies in this phase
};

struct Block {
  uint3 place{};
  int rank = 0;  // in the cluster
  int live = 0;
  std::vector<uint8_t> smem;  // from offset 0; the first bytes are the system's
  ShadowMemory shadow;
  NamedBarrier barriers[16];
  std::map<uint32_t, std::unique_ptr<MBarrier>> mbarriers;  // by offset
  int free_registers = 0;
  std::vector<Thread*> register_waiters;
  Clock ended;  // what its threads had seen at their ends

  // Accesses to this block's shared memory that must be over before it ends: the latest tick of each agent.
  struct Debt {
    uint32_t tick;
    Location at;
  };
  std::map<Agent, Debt> debts;
};

}  // namespace sim
