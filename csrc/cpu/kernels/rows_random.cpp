// Normal numbers, vectorised by the compiler over core/random.h. That header's functions have external
// linkage, so it is included inside this instruction set's namespace: otherwise the linker could take the
// AVX-512 version of them for all.
// (Square roots are vectorised only with -fno-math-errno, which changes no value.)
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/kernels/rows.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {
#include "core/random.h"

void randn(const RandnTask& task, int64_t begin, int64_t end) {
  constexpr int kGroups = 64;
  alignas(64) float numbers[kGroups * 4];
  for (int64_t group = begin; group < end; group += kGroups) {
    const uint64_t first = task.first + static_cast<uint64_t>(group);
    for (int i = 0; i < kGroups; i++)
      fsv::normal4(task.seed, task.stream, first + static_cast<uint64_t>(i), numbers + 4 * i);
    const int64_t left = (end < group + kGroups ? end - group : kGroups) * 4;
    const int64_t size = left < task.elements - group * 4 ? left : task.elements - group * 4;
    with_stored(task.dtype, [&](auto stored) {
      auto* out = static_cast<decltype(stored)*>(task.out) + group * 4;
      each_vector(
          size, [&](int64_t i, int64_t n) FSV_INLINE { store_some(out + i, load_some(numbers + i, n), n); });
    });
  }
}

}  // namespace fsv::cpu::FSV_ISA
