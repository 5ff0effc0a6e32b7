// Global memory: the allocations that kernels may touch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simulator/engine/shadow.h"

namespace sim {

struct Allocation {
  uintptr_t begin = 0;
  size_t bytes = 0;
  ShadowMemory shadow{true};
};

/// The allocation that holds the address, or null.
Allocation* find_allocation(const void* p);

/// Kernels that run unchecked write bytes that the shadows know nothing of.
void distrust_shadows();

/// The few allocations that a kernel works on, found without a lock.
class AllocationCache {
 public:
  Allocation* find(const void* p, uint64_t bytes);

 private:
  static constexpr int kSlots = 4;
  Allocation* slots_[kSlots] = {};
  int next_ = 0;
};

}  // namespace sim
