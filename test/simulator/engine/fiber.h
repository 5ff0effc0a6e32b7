// Stackful fibers, one a simulated thread. On x86-64 a switch is a dozen instructions; elsewhere, or with
// SIM_USE_UCONTEXT, it is swapcontext, which asks the kernel twice and costs fifty times as much.
#pragma once

#include <cstddef>
#include <utility>

#if defined(__x86_64__) && !defined(SIM_USE_UCONTEXT)
#define SIM_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace sim {

struct Fiber {
#if SIM_OWN_SWITCH
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  // For AddressSanitizer, which wants to know every stack.
  const void* bottom = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;
};

/// Makes the first switch to `fiber` call `entry`, which never returns.
void make_fiber(Fiber& fiber, char* stack, size_t size, void (*entry)());

/// Goes on with `to`; comes back when somebody switches to `from`. `last`: nobody will.
void switch_fiber(Fiber& from, Fiber& to, bool last = false);

/// To be called first on a new fiber, with the one that it was entered from.
void entered_fiber(Fiber& from);

/// Stacks of equal size, each above a page that faults. They outlive their user, for the next who wants as
/// many: to map the stacks of a block costs more than to run a small one.
class Stacks {
 public:
  Stacks(size_t count, size_t bytes);
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks();
  char* operator[](size_t i) const { return mapping_.base + i * mapping_.bytes; }
  size_t bytes() const { return mapping_.bytes; }

 private:
  struct Mapping {
    char* base;
    size_t count, bytes;
  };
  struct Idle;
  static Idle& idle();
  Mapping mapping_;
};

}  // namespace sim
