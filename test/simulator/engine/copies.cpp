// Copies without a tensor map: cp.async by the thread, bulk copies by the copy engine; and the groups they
// come in.
#include "simulator/engine/copies.h"

#include <algorithm>
#include <cstring>

namespace sim {

// ---- groups

CopyGroups::Group& CopyGroups::group(uint32_t number) {
  while (first + open.size() <= number) open.emplace_back();
  return open[number - first];
}

bool CopyGroups::pending(uint32_t number, bool only_reads) const {
  for (size_t i = 0; i < open.size() && first + i <= number; i++) {
    if (only_reads ? open[i].reading : open[i].unfinished) return true;
  }
  return false;
}

void CopyGroups::retire() {
  while (!open.empty() && first <= committed && !open.front().unfinished) {
    open.pop_front();
    first++;
  }
}

uint32_t CopyGroups::target(int pending) const {
  return committed > static_cast<uint32_t>(pending) ? committed - static_cast<uint32_t>(pending) : 0;
}

void add_to_group(Engine& engine, Thread& thread, CopyGroups& groups, const char* what) {
  CopyGroups::Group& group = groups.group(groups.committed + 1);
  group.reading++;
  group.unfinished++;
  if (groups.writer != kNobody || !engine.checking()) return;
  const std::string name = std::string(what) + " of thread " + std::to_string(thread.rank);
  groups.reader = engine.new_agent(name);
  groups.writer = engine.new_agent(name);
}

void finished_reading(Engine& engine, Thread& thread, CopyGroups& groups, uint32_t number) {
  groups.group(number).reading--;
  wake_copier(engine, thread);
}

void finished(Engine& engine, Thread& thread, CopyGroups& groups, uint32_t number) {
  groups.group(number).unfinished--;
  groups.retire();
  wake_copier(engine, thread);
}

void wake_copier(Engine& engine, Thread& thread) {
  if (!thread.waits_for_copies) return;
  thread.waits_for_copies = false;
  engine.wake(thread);
}

namespace {

void wait_for(Engine& engine, Thread& thread, CopyGroups& groups, uint32_t target, bool only_reads,
              const char* name, Location at) {
  while (groups.pending(target, only_reads)) {
    thread.waits_for_copies = true;
    engine.suspend(name, at, target);
  }
}

}  // namespace

// ---- cp.async

namespace {

struct CpAsync : Operation {
  CpAsync(Location location, Thread& issuer) : Operation(location), thread(issuer) {}

  bool step(Engine& engine) override {
    uint8_t* to = &thread.block->smem[offset];
    std::memcpy(to, from, static_cast<size_t>(valid));
    std::memset(to + valid, 0, static_cast<size_t>(size - valid));
    finished(engine, thread, thread.copies, group);
    return true;
  }

  Thread& thread;
  uint32_t offset = 0, group = 0;
  const void* from = nullptr;
  int size = 0, valid = 0;
};

}  // namespace

void cp_async(uint32_t dst, const void* src, int size, int valid, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  uint32_t offset;
  Block& block = engine.block_at(dst, offset, at);
  const auto bytes = static_cast<uint32_t>(size);
  if (!engine.inside(offset, bytes))
    engine.fail(at, "bounds", "cp.async to %s", engine.shared_name(offset).c_str());
  if ((dst | reinterpret_cast<uintptr_t>(src)) & (bytes - 1))
    engine.fail(at, "alignment", "cp.async of %d bytes", size);
  if (valid < 0 || valid > size) engine.fail(at, "protocol", "cp.async of %d bytes of %d", valid, size);
  add_to_group(engine, self, self.copies, "cp.async");
  auto operation = std::make_unique<CpAsync>(at, self);
  operation->group = self.copies.committed + 1;
  operation->offset = offset;
  operation->from = src;
  operation->size = size;
  operation->valid = valid;
  if (engine.checking()) {
    // Written by the copies' agent, read from global memory by it too; ordinary writes, to the asynchronous
    // proxy.
    Touch touch = engine.ordinary(true, at);
    touch.agent = self.copies.writer;
    touch.tick = operation->group;
    engine.touch_shared(block, offset, bytes, touch, at, "cp.async");
    touch.write = false;
    if (valid) engine.touch_global(src, static_cast<uint64_t>(valid), touch, at, "cp.async");
    if (valid && engine.options().count) {
      engine.count_lane(true, at, reinterpret_cast<uintptr_t>(src), static_cast<uint32_t>(valid));
    }
  }
  engine.issue(std::move(operation));
}

void cp_async_commit(Location) {
  CopyGroups& groups = Engine::thread().copies;
  groups.committed++;
  groups.retire();
}

void cp_async_wait(int pending, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  const uint32_t target = self.copies.target(pending);
  wait_for(engine, self, self.copies, target, false, "cp.async wait", at);
  engine.saw(self, self.copies.writer, target);
}

// ---- bulk copies

namespace {

struct BulkLoad : Operation {
  using Operation::Operation;

  bool step(Engine& engine) override {
    std::memcpy(&block->smem[offset], from, bytes);
    arrived(engine, *barrier, phase, bytes, at);
    return true;
  }

  Block* block = nullptr;
  MBarrier* barrier = nullptr;
  uint32_t phase = 0, offset = 0, bytes = 0;
  const void* from = nullptr;
};

struct BulkStore : Operation {
  BulkStore(Location location, Thread& issuer) : Operation(location), thread(issuer) {}

  bool step(Engine& engine) override {
    if (stage.empty()) {
      const uint8_t* from = &thread.block->smem[offset];
      stage.assign(from, from + bytes);
      finished_reading(engine, thread, thread.bulk, group);
      return false;
    }
    std::memcpy(to, stage.data(), bytes);
    finished(engine, thread, thread.bulk, group);
    return true;
  }

  Thread& thread;
  uint32_t offset = 0, bytes = 0, group = 0;
  void* to = nullptr;
  std::vector<uint8_t> stage;
};

void check_bulk(Engine& engine, uint32_t offset, const void* global, uint32_t bytes, Location at) {
  if (!engine.inside(offset, bytes)) {
    engine.fail(at, "bounds", "bulk copy of %u bytes at %s", bytes, engine.shared_name(offset).c_str());
  }
  if (offset % 16 || bytes % 16 || bytes == 0 || reinterpret_cast<uintptr_t>(global) % 16) {
    engine.fail(at, "alignment", "bulk copy of %u bytes: size and addresses must be multiples of 16", bytes);
  }
}

}  // namespace

void arrived(Engine& engine, MBarrier& barrier, uint32_t phase, uint32_t bytes, Location at) {
  if (barrier.phase != phase) {
    engine.fail(at, "protocol", "bytes came to mbarrier %s after their phase: too few were announced",
                engine.shared_name(barrier.offset).c_str());
  }
  barrier.bytes -= bytes;
  engine.complete(barrier, at);
}

Touch by_copies(const Thread& issuer, bool write, Agent agent, uint32_t tick) {
  Touch touch;
  touch.write = write;
  touch.async = true;
  touch.agent = agent;
  touch.tick = tick;
  touch.knows = &issuer.clock;
  return touch;
}

void bulk_load(uint32_t dst, const void* src, uint32_t bytes, uint32_t bar, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  uint32_t offset;
  Block& block = engine.block_at(dst, offset, at);
  check_bulk(engine, offset, src, bytes, at);
  auto operation = std::make_unique<BulkLoad>(at);
  operation->block = &block;
  operation->barrier = &engine.mbarrier(bar, at, true);
  operation->phase = operation->barrier->phase;
  operation->offset = offset;
  operation->bytes = bytes;
  operation->from = src;
  if (engine.checking()) {
    const MBarrier& barrier = *operation->barrier;
    engine.touch_shared(block, offset, bytes, by_copies(self, true, barrier.agent, barrier.tick()), at,
                        "bulk load");
    engine.touch_global(src, bytes, by_copies(self, false, barrier.agent, barrier.tick()), at, "bulk load");
    engine.owe(block, barrier.agent, barrier.tick(), at);
    engine.count_row(at, src, bytes);
  }
  engine.issue(std::move(operation));
}

void bulk_store(void* dst, uint32_t src, uint32_t bytes, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  uint32_t offset;
  Block& block = engine.block_at(src, offset, at);
  check_bulk(engine, offset, dst, bytes, at);
  add_to_group(engine, self, self.bulk, "bulk stores");
  auto operation = std::make_unique<BulkStore>(at, self);
  operation->group = self.bulk.committed + 1;
  operation->offset = offset;
  operation->bytes = bytes;
  operation->to = dst;
  if (engine.checking()) {
    const uint32_t group = operation->group;
    engine.touch_shared(block, offset, bytes, by_copies(self, false, self.bulk.reader, group), at,
                        "bulk store");
    engine.touch_global(dst, bytes, by_copies(self, true, self.bulk.writer, group), at, "bulk store");
    engine.count_row(at, dst, bytes);
  }
  engine.issue(std::move(operation));
}

void bulk_commit(Location) {
  CopyGroups& groups = Engine::thread().bulk;
  groups.committed++;
  groups.retire();
}

void bulk_wait(int pending, bool only_reads, Location at) {
  Engine& engine = Engine::current();
  Thread& self = Engine::thread();
  const uint32_t target = self.bulk.target(pending);
  wait_for(engine, self, self.bulk, target, only_reads, "bulk wait", at);
  self.bulk.waited = std::max(self.bulk.waited, target);
  engine.saw(self, self.bulk.reader, target);
  if (!only_reads) engine.saw(self, self.bulk.writer, target);
}

}  // namespace sim
