// The CPU backend's memory: large blocks straight from the system, in huge pages where it has them and given
// back when they are let go; small ones from the C library.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "cpu/backend.h"

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

namespace fsv::cpu {
namespace {

constexpr size_t kAlignment = 64;

#if __has_include(<sys/mman.h>)
constexpr size_t kLarge = 1 << 20;  // bytes from which a block is mapped

void* map(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  madvise(data, bytes,
          MADV_HUGEPAGE);  // fewer page faults and TLB misses; where it is refused, nothing is lost
#endif
  return data;
}
#endif

void copy_bytes(ThreadPool& pool, void* to, const void* from, size_t bytes) {
  constexpr int64_t kRun = 256 << 10;
  const int64_t size = static_cast<int64_t>(bytes);
  pool.parallel_for((size + kRun - 1) / kRun, 1, [&](int64_t begin, int64_t end, int) {
    const int64_t first = begin * kRun, last = std::min(end * kRun, size);
    std::memcpy(static_cast<char*>(to) + first, static_cast<const char*>(from) + first,
                static_cast<size_t>(last - first));
  });
}

}  // namespace

void* CpuBackend::allocate(size_t bytes) {
#if __has_include(<sys/mman.h>)
  if (bytes >= kLarge) return map(bytes);
#endif
  return std::aligned_alloc(kAlignment,
                            std::max((bytes + kAlignment - 1) / kAlignment, size_t{1}) * kAlignment);
}

void CpuBackend::release(void* data, [[maybe_unused]] size_t bytes) {
#if __has_include(<sys/mman.h>)
  if (bytes >= kLarge) {
    munmap(data, bytes);
    return;
  }
#endif
  std::free(data);
}

void CpuBackend::copy_in(void* to, const void* host, size_t bytes) { copy_bytes(pool_, to, host, bytes); }
void CpuBackend::copy_out(void* host, const void* from, size_t bytes) {
  copy_bytes(pool_, host, from, bytes);
}
void CpuBackend::copy(void* to, const void* from, size_t bytes) { copy_bytes(pool_, to, from, bytes); }

std::string CpuBackend::description() const {
  return text(kernels_.isa, ", ", pool_.size(), pool_.size() == 1 ? " thread" : " threads");
}

}  // namespace fsv::cpu
