// The attention kernel with f32 arithmetic in the simulator.
#include "cuda/kernels/attention_f32.cuh"

#include "simulator/cases/attention_case.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

template <class T>
std::vector<T> run(const AttentionData<T>& data, unsigned grid, const sim::Options& options) {
  using Tile = AttentionF32;
  const AttentionCase& c = data.c;
  AttentionMemory<T> memory(data);
  const AttentionProblem problem = memory.problem(Tile::kQueries);
  const sim::Report report = sim::launch(
      {grid, 1, 1}, {Tile::kThreads, 1, 1}, {1, 1, 1}, Tile::kSharedBytes, options,
      [&] { attention_f32<T>(memory.q.ptr(), memory.k.ptr(), memory.v.ptr(), memory.out.ptr(), problem); });
  // A head of more than 64 columns: queries again for each block of keys, everything for each 64 columns.
  const uint64_t passes = c.dim > 64 ? (c.dim + 63) / 64 * ((c.keys + 63) / 64) : 1;
  memory.check(report, data, Tile::kQueries, c.text() + " " + sim::check::name_of(options), passes);
  return memory.result();
}

template <class T>
void run_all(const AttentionCase& c, unsigned grid) {
  check_schedules<T>(c, [&](const auto& data, const auto& options) { return run<T>(data, grid, options); });
}

}  // namespace

int main() {
  run_all<float>({.queries = 1, .keys = 1, .dim = 1}, 1);
  run_all<float>({.batch = 2, .heads = 2, .queries = 33, .keys = 65, .dim = 64}, 3);
  run_all<float>({.queries = 31, .keys = 129, .dim = 70, .strength = 20}, 1);
  run_all<Bf16>({.queries = 3, .keys = 40, .dim = 257, .strength = -1}, 2);
  run_all<float>({.batch = 4, .queries = 5, .keys = 70, .dim = 17, .lengths = {0, 1, 64, 1000}}, 1);
  run_all<float>({.heads = 2, .queries = 34, .keys = 67, .dim = 3, .bias = true}, 1);
  run_all<Bf16>(
      {.batch = 2, .queries = 5, .keys = 130, .dim = 5, .lengths = {130, 67}, .bias = true, .hidden = true},
      1);
  check_parts<float>({.batch = 2, .heads = 2, .queries = 50, .keys = 70, .dim = 5, .lengths = {33, 70}},
                     [&](const auto& data, const auto& options) { return run<float>(data, 2, options); });
  return sim::check::finish("attention_f32");
}
