// Scheduling of randn: ranges of groups of four numbers, one sample after the other.
#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {

void CpuBackend::randn(const RandnArgs& args) {
  const int64_t elements = args.shape.elements(1, args.shape.rank);
  for (int64_t b = 0; b < args.shape[0]; b++) {
    const int64_t bytes = elements * static_cast<int64_t>(size_of(args.out.dtype));
    const RandnTask task = {.seed = args.seeds[b],
                            .stream = args.stream,
                            .first = args.offset / 4,
                            .elements = elements,
                            .out = args.out.as<char>() + b * bytes,
                            .dtype = args.out.dtype};
    pool_.parallel_for((elements + 3) / 4, kElementsARange / 16,
                       [&](int64_t begin, int64_t end, int) { kernels_.rows->randn(task, begin, end); });
  }
}

}  // namespace fsv::cpu
