// Checked accesses to shared and global memory, and the clocks that say which are ordered.
#include "simulator/engine/engine.h"

namespace sim {
namespace {

constexpr uint32_t kWindowBits =
    24;  // of an address; above: 0 for the own block, else 1 + a block of the cluster

}  // namespace

// ---- clocks

Agent Engine::new_agent(std::string name) {
  agents_.push_back(std::move(name));
  return static_cast<Agent>(threads_.size() + agents_.size() - 1);
}

void Engine::release(Thread& thread, Clock& into) {
  if (!checking()) return;
  into.join(thread.clock);
  thread.clock.seen.raise(thread.agent(), thread.tick() + 1);
  thread.version++;
}

void Engine::acquire(Thread& thread, const Clock& from) {
  if (!checking()) return;
  thread.clock.join(from);
  thread.version++;
}

void Engine::saw(Thread& thread, Agent agent, uint32_t tick) {
  if (!checking() || agent == kNobody) return;
  thread.clock.seen.raise(agent, tick);
  thread.version++;
}

Touch Engine::ordinary(bool write, Location at) {
  Touch touch;
  touch.write = write;
  touch.agent = running_->agent();
  touch.tick = running_->tick();
  touch.knows = &running_->clock;
  touch.site = site(at);
  return touch;
}

// ---- shared memory

Block& Engine::block_at(uint32_t address, uint32_t& offset, Location at) {
  offset = address & ((1u << kWindowBits) - 1);
  const uint32_t window = address >> kWindowBits;
  if (window == 0) return *running_->block;
  if (window > blocks_.size())
    fail(at, "bounds", "shared address 0x%x is of no block of the cluster", address);
  return blocks_[window - 1];
}

bool Engine::inside(uint32_t offset, uint64_t bytes) const {
  return offset >= base_ && offset + bytes <= base_ + launch_.smem_bytes;
}

void Engine::owe(Block& block, Agent agent, uint32_t tick, Location at) {
  if (!checking()) return;
  Block::Debt& debt = block.debts[agent];
  if (debt.tick <= tick) debt = {tick, at};
}

void Engine::touch_shared(Block& block, uint32_t offset, uint32_t bytes, Touch touch, Location at,
                          const char* what) {
  if (!checking()) return;
  touch.site = site(at);
  if (running_ && &block != running_->block) {
    if (block.live == 0) {
      fail(at, "protocol", "%s reaches block %d of the cluster, which has ended", what, block.rank);
    }
    bool started = false;
    for (const Thread& thread : threads_)
      started |= thread.block == &block && touch.knows->seen[thread.agent()] > 0;
    if (!started) {
      fail(at, "race",
           "%s reaches block %d of the cluster, which may not have started: no cluster barrier before", what,
           block.rank);
    }
    owe(block, touch.agent, touch.tick, at);
  }
  if (const Violation violation = block.shadow.touch(offset, bytes, touch, launch_.number, unit_)) {
    fail(at, what, false, violation);
  }
}

uint32_t smem_base() { return Engine::current().base(); }

void* shared_access(uint32_t address, uint32_t bytes, Access access, Location at) {
  Engine& engine = Engine::current();
  uint32_t offset;
  Block& block = engine.block_at(address, offset, at);
  const bool write = access == Access::write;
  const char* what = write ? "shared store" : "shared load";
  if (!engine.inside(offset, bytes)) {
    engine.fail(at, "bounds", "%s of %u bytes at %s, outside the block's %u bytes", what, bytes,
                engine.shared_name(offset).c_str(), engine.launch().smem_bytes);
  }
  if (address & (bytes - 1)) {
    engine.fail(at, "alignment", "%s of %u bytes at address 0x%x", what, bytes, address);
  }
  if (engine.checking()) {
    engine.touch_shared(block, offset, bytes, engine.ordinary(write, at), at, what);
    if (engine.options().count) engine.count_lane(false, at, offset, bytes);
  }
  return &block.smem[offset];
}

uint32_t map_shared(uint32_t address, uint32_t rank, Location at) {
  Engine& engine = Engine::current();
  if (rank >= engine.blocks().size())
    engine.fail(at, "bounds", "mapa of block %u of %zu", rank, engine.blocks().size());
  return (address & ((1u << kWindowBits) - 1)) | (rank + 1) << kWindowBits;
}

// ---- global memory

void Engine::touch_global(const void* p, uint64_t bytes, Touch touch, Location at, const char* what) {
  Allocation* allocation = allocations_.find(p, bytes);
  if (!allocation) {
    fail(at, "bounds", "%s of %llu bytes outside every allocation", what,
         static_cast<unsigned long long>(bytes));
  }
  touch.site = site(at);
  (touch.write ? report_.global_written : report_.global_read) += bytes;
  const size_t offset = reinterpret_cast<uintptr_t>(p) - allocation->begin;
  if (const Violation violation = allocation->shadow.touch(offset, bytes, touch, launch_.number, unit_)) {
    fail(at, what, true, violation);
  }
}

void Engine::count_lane(bool global, Location at, uint64_t address, uint32_t bytes) {
  counters_.lane(global, site(at), running_->warp->index, running_->index, address, bytes);
}

void Engine::count_warp(Location at, const uint64_t* addresses, int n, uint32_t bytes) {
  if (options().count) counters_.warp(false, site(at), addresses, n, bytes);
}

void Engine::count_row(Location at, const void* p, uint64_t bytes) {
  if (options().count) counters_.row(site(at), reinterpret_cast<uintptr_t>(p), bytes);
}

void global_access(const void* p, uint32_t bytes, Access access, Location at) {
  Engine& engine = Engine::current();
  if (!engine.checking()) return;
  const bool write = access == Access::write;
  const char* what = write ? "global store" : "global load";
  const auto address = reinterpret_cast<uintptr_t>(p);
  if (address & (bytes - 1)) {
    engine.fail(at, "alignment", "%s of %u bytes at an address that is %u more than a multiple", what, bytes,
                static_cast<unsigned>(address & (bytes - 1)));
  }
  Touch touch = engine.ordinary(write, at);
  touch.noncoherent = access == Access::read_noncoherent;
  engine.touch_global(p, bytes, touch, at, what);
  if (engine.options().count) engine.count_lane(true, at, address, bytes);
}

}  // namespace sim
