// Barriers of a block and of a cluster, fences, the register pool, and the end of threads and clusters.
#include <algorithm>

#include "simulator/engine/engine.h"

namespace sim {

void barrier(int id, int threads, bool wait, Location at) {
  Engine& engine = Engine::current();
  engine.give_way(at);
  Thread& self = Engine::thread();
  const int whole = static_cast<int>(engine.launch().threads());
  if (threads == 0) threads = whole;
  if (id < 0 || id > 15) engine.fail(at, "protocol", "there is no barrier %d", id);
  if (threads % 32 && threads != whole) engine.fail(at, "protocol", "a barrier of %d threads", threads);
  NamedBarrier& barrier = self.block->barriers[id];
  if (barrier.arrived && barrier.expected != threads) {
    engine.fail(at, "protocol", "barrier %d is used with counts %d and %d at once", id, barrier.expected,
                threads);
  }
  barrier.expected = threads;
  engine.release(self, barrier.arrivals);
  if (++barrier.arrived < threads) {
    if (!wait) return;
    barrier.waiting.push_back(&self);
    engine.suspend("barrier", at, static_cast<uint32_t>(id));
    return;
  }
  for (Thread* thread : barrier.waiting) engine.acquire(*thread, barrier.arrivals);
  if (wait) engine.acquire(self, barrier.arrivals);
  engine.wake(barrier.waiting);
  barrier.arrived = 0;
  barrier.arrivals.clear();
}

// ---- clusters

unsigned cluster_rank() { return static_cast<unsigned>(Engine::thread().block->rank); }
unsigned cluster_size() { return static_cast<unsigned>(Engine::current().blocks().size()); }

namespace {

void end_phase(Engine& engine, ClusterBarrier& barrier, int live) {
  if (barrier.missing) return;
  barrier.phase++;
  barrier.missing = live;
  barrier.released.join(barrier.arrivals);
  engine.wake(barrier.waiting);
}

}  // namespace

void cluster_arrive(Location at) {
  Engine& engine = Engine::current();
  engine.give_way(at);
  Thread& self = Engine::thread();
  ClusterBarrier& barrier = engine.cluster_barrier();
  if (self.cluster_arrived)
    engine.fail(at, "protocol", "a thread arrives twice at the cluster barrier without waiting");
  self.cluster_arrived = true;
  self.cluster_phase = barrier.phase;
  engine.release(self, barrier.arrivals);
  barrier.missing--;
  end_phase(engine, barrier, engine.live_threads());
}

void cluster_wait(Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  ClusterBarrier& barrier = engine.cluster_barrier();
  if (!self.cluster_arrived)
    engine.fail(at, "protocol", "a thread waits for the cluster barrier and never arrived");
  while (barrier.phase == self.cluster_phase) {
    barrier.waiting.push_back(&self);
    engine.suspend("cluster barrier", at);
  }
  self.cluster_arrived = false;
  engine.acquire(self, barrier.released);
}

// ---- fences

void fence(Fence kind, Location) {
  Engine& engine = Engine::current();
  if (!engine.checking()) return;
  Thread& self = Engine::thread();
  if (kind != Fence::async_global) {
    for (auto& [offset, barrier] : self.block->mbarriers)
      barrier->fenced |= barrier->initialiser == self.agent();
  }
  if (kind == Fence::mbarrier_init) return;
  Ticks& fenced = kind == Fence::async_global ? self.clock.fenced_global : self.clock.fenced_shared;
  fenced.raise(self.agent(), self.tick());
  // Copies by cp.async are ordinary writes once this thread has waited for them.
  if (self.copies.writer != kNobody) fenced.raise(self.copies.writer, self.clock.seen[self.copies.writer]);
  self.clock.seen.raise(self.agent(), self.tick() + 1);
  self.version++;
}

// ---- registers

void set_registers(int count, bool increase, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  Warp& warp = *self.warp;
  if (count % 8 || count < 24 || count > 256) {
    engine.fail(at, "protocol", "setmaxnreg %d: not a multiple of 8 from 24 to 256", count);
  }
  if (increase ? count < warp.registers : count > warp.registers) {
    engine.fail(at, "protocol", "setmaxnreg.%s from %d to %d registers", increase ? "inc" : "dec",
                warp.registers, count);
  }
  if (Collective* all = engine.meet(~0u, "setmaxnreg", nullptr, at)) {
    if (!increase) {
      self.block->free_registers += 32 * (warp.registers - count);
      warp.registers = count;
      engine.wake(self.block->register_waiters);
    }
    engine.part(*all);
  }
  while (warp.registers < count) {
    const int more = 32 * (count - warp.registers);
    if (self.block->free_registers >= more) {
      self.block->free_registers -= more;
      warp.registers = count;
    } else {
      self.block->register_waiters.push_back(&self);
      engine.suspend("setmaxnreg", at, static_cast<uint32_t>(count));
    }
  }
}

// ---- ends

void Engine::end_thread(Thread& thread) {
  if (thread.bulk.committed > thread.bulk.waited || !thread.bulk.open.empty()) {
    fail(thread.at, "protocol", "a thread ends with bulk stores that it never waited for");
  }
  if (thread.warpgroup) {
    for (const auto& [registers, accumulator] : thread.warpgroup->accumulators) {
      if (accumulator.returned[thread.rank % 128]) continue;
      fail(thread.at, "protocol", "a thread ends with products of wgmma that it never waited for");
    }
  }
  thread.done = true;
  live_--;
  Block& block = *thread.block;
  block.live--;
  if (checking()) block.ended.join(thread.clock);
  if (!thread.cluster_arrived || thread.cluster_phase != cluster_barrier_.phase) cluster_barrier_.missing--;
  end_phase(*this, cluster_barrier_, live_);
}

/// What can only be said when all threads have ended.
void Engine::finish_unit() {
  for (size_t i = 0; i < warpgroups_.size(); i++) {
    const Warp* warps = warpgroups_[i].threads->warp;
    for (int w = 1; w < 4; w++) {
      if (warps[w].registers != warps[0].registers) {
        fail({"kernel", 0}, "protocol", "setmaxnreg was executed by only some warps of warpgroup %zu", i);
      }
    }
  }
  for (const auto& operation : operations_) {
    fail(operation->at, "protocol", "the block ends with this operation in flight");
  }
  for (Block& block : blocks_) {
    for (const auto& [agent, debt] : block.debts) {
      if (block.ended.seen[agent] < debt.tick) {
        fail(debt.at, "race", "block %d of the cluster may end before this: nobody there waits for %s",
             block.rank, agent_name(agent).c_str());
      }
    }
  }
}

}  // namespace sim
