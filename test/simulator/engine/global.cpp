#include "simulator/engine/global.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "simulator/simulator.h"

namespace sim {
namespace {

constexpr size_t kAlignment = 256;

struct Registry {
  std::mutex mutex;
  std::map<uintptr_t, std::unique_ptr<Allocation>> allocations;
};

Registry& registry() {
  static Registry* registry = new Registry;  // outlives every static Global
  return *registry;
}

Allocation* find_locked(uintptr_t address) {
  auto next = registry().allocations.upper_bound(address);
  if (next == registry().allocations.begin()) return nullptr;
  Allocation* allocation = std::prev(next)->second.get();
  return address < allocation->begin + allocation->bytes ? allocation : nullptr;
}

bool holds(const Allocation* allocation, const void* p, uint64_t bytes) {
  if (!allocation) return false;
  const uintptr_t offset = reinterpret_cast<uintptr_t>(p) - allocation->begin;
  return offset <= allocation->bytes && bytes <= allocation->bytes - offset;
}

}  // namespace

void* allocate(size_t bytes) {
  void* p = std::aligned_alloc(kAlignment, (bytes + kAlignment) / kAlignment * kAlignment);
  if (!p) throw std::bad_alloc();
  adopt(p, bytes);
  return p;
}

void release(void* p) {
  forget(p);
  std::free(p);
}

void adopt(void* p, size_t bytes) {
  auto allocation = std::make_unique<Allocation>();
  allocation->begin = reinterpret_cast<uintptr_t>(p);
  allocation->bytes = bytes;
  allocation->shadow.reset(bytes);
  std::lock_guard lock(registry().mutex);
  registry().allocations[allocation->begin] = std::move(allocation);
}

void forget(void* p) {
  std::lock_guard lock(registry().mutex);
  registry().allocations.erase(reinterpret_cast<uintptr_t>(p));
}

void mark(const void* p, size_t bytes, Mark state) {
  std::lock_guard lock(registry().mutex);
  const auto address = reinterpret_cast<uintptr_t>(p);
  if (Allocation* allocation = bytes ? find_locked(address) : nullptr) {
    allocation->shadow.mark(address - allocation->begin, bytes, state);
  }
}

void mark_initialised(const void* p, size_t bytes) { mark(p, bytes, Mark::defined); }

bool is_allocated(const void* p, size_t bytes) {
  std::lock_guard lock(registry().mutex);
  return holds(find_locked(reinterpret_cast<uintptr_t>(p)), p, bytes);
}

Allocation* find_allocation(const void* p) {
  std::lock_guard lock(registry().mutex);
  return find_locked(reinterpret_cast<uintptr_t>(p));
}

void distrust_shadows() {
  std::lock_guard lock(registry().mutex);
  for (auto& [begin, allocation] : registry().allocations) {
    allocation->shadow.trust_undefined();
  }
}

Allocation* AllocationCache::find(const void* p, uint64_t bytes) {
  for (Allocation* slot : slots_) {
    if (holds(slot, p, bytes)) return slot;
  }
  Allocation* found = find_allocation(p);
  if (!holds(found, p, bytes)) return nullptr;
  return slots_[next_++ % kSlots] = found;
}

}  // namespace sim
