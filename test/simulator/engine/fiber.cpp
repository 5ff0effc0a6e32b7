#include "simulator/engine/fiber.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if SIM_OWN_SWITCH
// Ends with a jump and not with `ret`: the processor predicts returns from calls, and there was none.
extern "C" void sim_switch_stacks(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl sim_switch_stacks
.hidden sim_switch_stacks
.type sim_switch_stacks,@function
sim_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rdx
  jmp *%rdx
.size sim_switch_stacks, .-sim_switch_stacks
)");
#endif

namespace sim {
namespace {

constexpr size_t kGuard = 4096;
constexpr size_t kMostIdle = 4;  // mappings that wait for a user

}  // namespace

void make_fiber(Fiber& fiber, char* stack, size_t size, void (*entry)()) {
  fiber.bottom = stack;
  fiber.size = size;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack + kGuard,
                                size - kGuard);  // an earlier block was left in the middle of a call
#endif
#if SIM_OWN_SWITCH
  // Tops are staggered, or the stacks of a block would all want the same lines of the cache.
  const size_t skew = reinterpret_cast<uintptr_t>(stack) / size % 16 * 64;
  const auto top = (reinterpret_cast<uintptr_t>(stack) + size - 64 - skew) & ~uintptr_t{15};
  void** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // the entry's return address, and the alignment that a call would leave
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--slot = nullptr;
  fiber.stack_pointer = slot;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = size;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#endif
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.bottom, to.size);
#endif
#if SIM_OWN_SWITCH
  sim_switch_stacks(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void entered_fiber([[maybe_unused]] Fiber& from) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!from.bottom) {  // the thread that runs the scheduler: its own stack
    from.bottom = bottom;
    from.size = size;
  }
#endif
}

struct Stacks::Idle {
  std::mutex mutex;
  std::vector<Mapping> mappings;
};

Stacks::Idle& Stacks::idle() {
  static Idle* idle = new Idle;  // never destroyed: a worker may end after main
  return *idle;
}

Stacks::Stacks(size_t count, size_t bytes) {
  {
    std::lock_guard lock(idle().mutex);
    auto& mappings = idle().mappings;
    const auto fits = [&](const Mapping& m) { return m.bytes == bytes && m.count >= count; };
    const auto found = std::find_if(mappings.begin(), mappings.end(), fits);
    if (found != mappings.end()) {
      mapping_ = *found;
      mappings.erase(found);
      return;
    }
  }
  void* base = mmap(nullptr, count * bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  mapping_ = {static_cast<char*>(base), count, bytes};
  for (size_t i = 0; i < count; i++) mprotect((*this)[i], kGuard, PROT_NONE);
}

Stacks::~Stacks() {
  std::lock_guard lock(idle().mutex);
  auto& mappings = idle().mappings;
  mappings.push_back(mapping_);
  if (mappings.size() <= kMostIdle) return;
  const Mapping oldest = mappings.front();
  mappings.erase(mappings.begin());
  munmap(oldest.base, oldest.count * oldest.bytes);
}

}  // namespace sim
