#include "core/pool.h"

#include <algorithm>

#include "core/error.h"

namespace fsv {
namespace {

constexpr size_t kAlignment = 512;
constexpr size_t kSmallLimit = size_t{1} << 20;  // below: many blocks share a segment
constexpr size_t kSmallSegment = size_t{4} << 20;
constexpr size_t kLargeUnit = size_t{2} << 20;  // above: a segment of its own, in huge pages
constexpr size_t kSmallRest = kAlignment;       // a smaller rest stays with the block it was split from
constexpr size_t kLargeRest = size_t{1} << 20;

constexpr size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Pool::~Pool() { trim(); }

Pool::Block* Pool::grow(size_t bytes, bool small) {
  size_t size = small ? kSmallSegment : round_up(bytes, kLargeUnit);
  if (usage_.limit) {
    const size_t left = usage_.limit > usage_.reserved ? usage_.limit - usage_.reserved : 0;
    size = std::min(size, left / kAlignment * kAlignment);
  }
  void* data = size >= bytes ? source_.allocate(size) : nullptr;
  if (!data) return nullptr;
  usage_.reserve(size);
  if (whole_segments_) usage_.add(size);
  Block* block = new Block{static_cast<char*>(data), size, ++segments_, true, small, nullptr, nullptr};
  free_list(small).insert(block);
  return block;
}

Pool::Block* Pool::take(size_t bytes) {
  const size_t size = round_up(bytes ? bytes : 1, kAlignment);
  const bool small = size < kSmallLimit;
  Free& list = free_list(small);
  Block probe{nullptr, size, 0, true, small, nullptr, nullptr};
  auto found = list.lower_bound(&probe);
  Block* block = found == list.end() ? nullptr : *found;
  // Free segments of the wrong size are not kept for long: they would add up to more than what is in use.
  if (!block && !small && usage_.reserved - usage_.in_use > usage_.in_use / 4) trim();
  if (!block) block = grow(size, small);
  if (!block) {
    trim();
    source_.settle();
    block = grow(size, small);
  }
  if (!block) {
    int64_t left = source_.available();
    if (usage_.limit) {
      const auto allowed = static_cast<int64_t>(usage_.limit - std::min(usage_.limit, usage_.reserved));
      left = left < 0 ? allowed : std::min(left, allowed);
    }
    throw out_of_memory(static_cast<int64_t>(size), left);
  }
  list.erase(block);
  if (block->size - size >= (small ? kSmallRest : kLargeRest)) {
    Block* rest =
        new Block{block->data + size, block->size - size, block->segment, true, small, block, block->after};
    if (rest->after) rest->after->before = rest;
    block->after = rest;
    block->size = size;
    list.insert(rest);
  }
  block->free = false;
  if (!whole_segments_) usage_.add(block->size);
  return block;
}

void Pool::give(Block* block) {
  Free& list = free_list(block->small);
  if (!whole_segments_) usage_.in_use -= block->size;
  block->free = true;
  if (Block* next = block->after; next && next->free) {
    list.erase(next);
    block->size += next->size;
    block->after = next->after;
    if (next->after) next->after->before = block;
    delete next;
  }
  if (Block* previous = block->before; previous && previous->free) {
    list.erase(previous);
    previous->size += block->size;
    previous->after = block->after;
    if (block->after) block->after->before = previous;
    delete block;
    block = previous;
  }
  list.insert(block);
}

void Pool::trim() {
  for (Free* list : {&small_, &large_}) {
    for (auto it = list->begin(); it != list->end();) {
      Block* block = *it;
      if (block->before || block->after) {
        ++it;
        continue;
      }
      it = list->erase(it);
      usage_.reserved -= block->size;
      if (whole_segments_) usage_.in_use -= block->size;
      source_.release(block->data, block->size);
      delete block;
    }
  }
}

}  // namespace fsv
