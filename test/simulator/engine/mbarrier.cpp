// mbarriers: phases that end when all arrivals and all announced bytes have come.
#include "simulator/engine/engine.h"

namespace sim {
namespace {

constexpr int64_t kMostBytes = (1 << 20) - 1;  // that a phase can count

}  // namespace

MBarrier& Engine::mbarrier(Block& block, uint32_t offset, Location at, bool by_copies) {
  const auto found = block.mbarriers.find(offset);
  if (found == block.mbarriers.end() || !found->second->live) {
    fail(at, "protocol", "there is no mbarrier at %s", shared_name(offset).c_str());
  }
  MBarrier& barrier = *found->second;
  if (checking() && running_) {
    if (running_->clock.seen[barrier.initialiser] < barrier.init_tick) {
      fail(at, "race", "mbarrier %s is used without being ordered after its init",
           shared_name(offset).c_str());
    }
    if ((by_copies || &block != running_->block) && !barrier.fenced) {
      fail(at, "fence", "mbarrier %s is used by %s without fence.mbarrier_init after its init",
           shared_name(offset).c_str(), by_copies ? "copies" : "another block");
    }
  }
  return barrier;
}

MBarrier& Engine::mbarrier(uint32_t address, Location at, bool by_copies) {
  uint32_t offset;
  Block& block = block_at(address, offset, at);
  return mbarrier(block, offset, at, by_copies);
}

void Engine::complete(MBarrier& barrier, Location at) {
  const std::string name = shared_name(barrier.offset);
  if (barrier.bytes < 0 && barrier.pending == 0) {
    fail(at, "protocol", "mbarrier %s got %lld bytes more than were announced", name.c_str(),
         static_cast<long long>(-barrier.bytes));
  }
  if (barrier.bytes > kMostBytes || barrier.bytes < -kMostBytes) {
    fail(at, "protocol", "mbarrier %s cannot count %lld bytes", name.c_str(),
         static_cast<long long>(barrier.bytes));
  }
  if (barrier.pending || barrier.bytes) return;
  if (checking()) {
    barrier.released.join(barrier.arrivals);
    barrier.released.seen.raise(barrier.agent, barrier.tick());
  }
  barrier.phase++;
  barrier.pending = barrier.count;
  wake(barrier.waiting);
}

void mbarrier_init(uint32_t bar, uint32_t arrivals, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  uint32_t offset;
  Block& block = engine.block_at(bar, offset, at);
  if (&block != self.block) engine.fail(at, "protocol", "mbarrier.init of another block's barrier");
  if (offset % 8) engine.fail(at, "alignment", "mbarrier at address 0x%x", bar);
  if (!engine.inside(offset, 8))
    engine.fail(at, "bounds", "mbarrier at %s", engine.shared_name(offset).c_str());
  if (arrivals == 0 || arrivals > kMostBytes)
    engine.fail(at, "protocol", "an mbarrier of %u arrivals", arrivals);
  auto& place = block.mbarriers[offset];
  if (!place) {
    place = std::make_unique<MBarrier>();
    place->offset = offset;
    if (engine.checking()) {
      place->agent = engine.new_agent("copies that report to mbarrier " + engine.shared_name(offset));
    }
  } else if (place->live) {
    engine.fail(at, "protocol", "mbarrier %s is initialised again while it lives",
                engine.shared_name(offset).c_str());
  }
  MBarrier& barrier = *place;
  engine.touch_shared(block, offset, 8, engine.ordinary(true, at), at, "mbarrier.init");
  if (engine.checking()) block.shadow.mark_mbarrier(offset, true);
  barrier.count = barrier.pending = arrivals;
  barrier.phases_before += barrier.phase;
  barrier.phase = 0;
  barrier.bytes = 0;
  barrier.live = true;
  barrier.fenced = false;
  barrier.initialiser = self.agent();
  barrier.init_tick = self.tick();
  barrier.arrivals.clear();
  barrier.released.clear();
}

void mbarrier_invalidate(uint32_t bar, Location at) {
  Engine& engine = Engine::current();
  MBarrier& barrier = engine.mbarrier(bar, at);
  if (!barrier.waiting.empty() || barrier.bytes) {
    engine.fail(at, "protocol", "mbarrier %s is invalidated in use",
                engine.shared_name(barrier.offset).c_str());
  }
  barrier.live = false;
  if (!engine.checking()) return;
  Block& block = *Engine::thread().block;
  block.shadow.mark_mbarrier(barrier.offset, false);
  engine.touch_shared(block, barrier.offset, 8, engine.ordinary(true, at), at, "mbarrier.inval");
}

void mbarrier_arrive(uint32_t bar, uint32_t arrivals, uint32_t bytes, Location at) {
  Engine& engine = Engine::current();
  engine.give_way(at);
  Thread& self = Engine::thread();
  uint32_t offset;
  Block& block = engine.block_at(bar, offset, at);
  if (block.live == 0) {
    engine.fail(at, "protocol", "an arrival at block %d of the cluster, which has ended", block.rank);
  }
  MBarrier& barrier = engine.mbarrier(block, offset, at, false);
  if (barrier.pending < arrivals) {
    engine.fail(at, "protocol", "mbarrier %s: more arrivals than its %u in one phase",
                engine.shared_name(offset).c_str(), barrier.count);
  }
  if (&block != self.block) engine.owe(block, self.agent(), self.tick(), at);
  barrier.bytes += bytes;
  if (!arrivals) return;
  engine.release(self, barrier.arrivals);
  barrier.pending -= arrivals;
  engine.complete(barrier, at);
}

bool mbarrier_test(uint32_t bar, uint32_t parity, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  MBarrier& barrier = engine.mbarrier(bar, at);
  if (parity > 1) engine.fail(at, "protocol", "an mbarrier has no parity %u", parity);
  if ((barrier.phase & 1) == parity) engine.spin("mbarrier try_wait", at, barrier.offset, parity);
  if ((barrier.phase & 1) == parity) return false;
  engine.acquire(self, barrier.released);
  return true;
}

void mbarrier_wait(uint32_t bar, uint32_t parity, Location at) {
  Engine& engine = Engine::current();
  engine.give_way(at);
  Thread& self = Engine::thread();
  MBarrier& barrier = engine.mbarrier(bar, at);
  if (parity > 1) engine.fail(at, "protocol", "an mbarrier has no parity %u", parity);
  if ((barrier.phase & 1) == parity) {
    const uint32_t phase = barrier.phase;
    barrier.waiting.push_back(&self);
    engine.suspend("mbarrier wait", at, barrier.offset, parity);
    if (barrier.phase - phase > 1) {
      engine.fail(at, "protocol",
                  "mbarrier %s went %u phases on while this thread waited: it may wait for ever",
                  engine.shared_name(barrier.offset).c_str(), barrier.phase - phase);
    }
  }
  engine.acquire(self, barrier.released);
}

}  // namespace sim
