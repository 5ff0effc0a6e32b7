// The CPU backend's memory: large blocks straight from the system, small ones from the C library.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "cpu/backend.h"

namespace fsv::cpu {
namespace {

constexpr size_t kAlignment = 64;

/// Segments of the pool; what a limit has clipped comes from the C library.
bool is_mapped(size_t bytes) { return bytes > 0 && bytes % MappedMemory::kUnit == 0; }

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
  if (is_mapped(bytes)) return mapped_.take(bytes);
  return std::aligned_alloc(kAlignment,
                            std::max((bytes + kAlignment - 1) / kAlignment, size_t{1}) * kAlignment);
}

void CpuBackend::release(void* data, size_t bytes) {
  if (is_mapped(bytes)) return mapped_.give(data, bytes);
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
