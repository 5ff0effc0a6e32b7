// The attention kernel with f32 arithmetic in the simulator.
#include "cuda/kernels/attention_f32.cuh"

#include "simulator/kernels/attention_case.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

template <class T>
void run(const AttentionCase& c, unsigned grid) {
  const AttentionData<T> data(c);
  // A head of more than 64 columns: queries again for each block of keys, everything for each 64 columns.
  const uint64_t passes = c.dim > 64 ? (c.dim + 63) / 64 * ((c.keys + 63) / 64) : 1;
  for (const sim::Options& options : schedules()) {
    AttentionMemory<T> memory(data);
    const AttentionProblem problem = memory.problem(AttentionF32::kQueries);
    const sim::Report report = sim::launch(
        {grid, 1, 1}, {AttentionF32::kThreads, 1, 1}, {1, 1, 1}, AttentionF32::kSharedBytes, options,
        [&] { attention_f32<T>(memory.q.ptr(), memory.k.ptr(), memory.v.ptr(), memory.out.ptr(), problem); });
    memory.check(report, data, AttentionF32::kQueries, c.text() + " " + sim::check::name_of(options), passes);
  }
}

}  // namespace

int main() {
  run<float>({.queries = 1, .keys = 1, .dim = 1}, 1);
  run<float>({.batch = 2, .heads = 2, .queries = 33, .keys = 65, .dim = 64}, 3);
  run<float>({.queries = 31, .keys = 129, .dim = 70, .strength = 20}, 1);
  run<Bf16>({.queries = 3, .keys = 40, .dim = 257, .strength = -1}, 2);
  run<float>({.batch = 4, .queries = 5, .keys = 70, .dim = 17, .lengths = {0, 1, 64, 1000}}, 1);
  run<float>({.heads = 2, .queries = 34, .keys = 67, .dim = 3, .bias = true}, 1);
  run<Bf16>(
      {.batch = 2, .queries = 5, .keys = 130, .dim = 5, .lengths = {130, 67}, .bias = true, .hidden = true},
      1);
  return sim::check::finish("attention_f32");
}
