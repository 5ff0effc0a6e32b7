#include "cpu/mapped_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

namespace fsv::cpu {
namespace {

void* map(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  madvise(data, bytes, MADV_HUGEPAGE);  // fewer page faults and TLB misses; nothing is lost by a refusal
#endif
  return data;
}
void unmap(void* data, size_t bytes) { munmap(data, bytes); }

}  // namespace

MappedMemory::~MappedMemory() { drop(); }

void MappedMemory::drop() {
  const std::lock_guard lock(mutex_);
  drop(kept_bytes_);
}

void MappedMemory::drop(size_t bytes) {
  kept_bytes_ -= bytes;
  while (bytes > 0) {
    const auto last = std::prev(kept_.end());
    const size_t part = std::min(bytes, last->second);
    unmap(last->first + last->second - part, part);
    bytes -= part;
    last->second -= part;
    if (last->second == 0) kept_.erase(last);
  }
}

void* MappedMemory::take(size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    auto best = kept_.end();
    for (auto it = kept_.begin(); it != kept_.end(); ++it)
      if (it->second >= bytes && (best == kept_.end() || it->second < best->second)) best = it;
    if (best != kept_.end()) {
      const auto [data, size] = *best;
      kept_.erase(best);
      if (size > bytes) kept_.emplace(data + bytes, size - bytes);
      kept_bytes_ -= bytes;
      return data;
    }
  }
  return map(bytes);
}

void MappedMemory::give(void* data, size_t bytes) {
  if (bytes > kMostKept) return unmap(data, bytes);
  const std::lock_guard lock(mutex_);
  if (kept_bytes_ + bytes > kMostKept) drop(kept_bytes_ + bytes - kMostKept);
  kept_bytes_ += bytes;
  auto block = kept_.emplace(static_cast<char*>(data), bytes).first;
  if (const auto after = std::next(block);
      after != kept_.end() && after->first == block->first + block->second) {
    block->second += after->second;
    kept_.erase(after);
  }
  if (block == kept_.begin()) return;
  if (const auto before = std::prev(block); before->first + before->second == block->first) {
    before->second += block->second;
    kept_.erase(block);
  }
}

}  // namespace fsv::cpu
