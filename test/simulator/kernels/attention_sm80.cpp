// The portable attention kernel in the simulator.
#include "cuda/kernels/attention_sm80.cuh"

#include "simulator/cases/attention_case.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

template <class Tile>
std::vector<Bf16> run(const AttentionData<Bf16>& data, unsigned grid, const sim::Options& options) {
  AttentionMemory<Bf16> memory(data);
  const AttentionProblem problem = memory.problem(Tile::kQueries);
  const sim::Report report =
      sim::launch({grid, 1, 1}, {Tile::kThreads, 1, 1}, {1, 1, 1}, Tile::kSharedBytes, options, [&] {
        attention_sm80<Tile>(memory.q.ptr(), memory.k.ptr(), memory.v.ptr(), memory.out.ptr(), problem);
      });
  memory.check(report, data, Tile::kQueries, data.c.text() + " " + sim::check::name_of(options));
  return memory.result();
}

template <class Tile>
void run_all(const AttentionCase& c, unsigned grid) {
  check_schedules<Bf16>(
      c, [&](const auto& data, const auto& options) { return run<Tile>(data, grid, options); });
}

template <class Tile>
void run_parts(const AttentionCase& c) {
  check_parts<Bf16>(c, [&](const auto& data, const auto& options) { return run<Tile>(data, 2, options); });
}

}  // namespace

int main() {
  run_all<AttentionSm80<64>>({.queries = 1, .keys = 1, .dim = 8}, 1);
  run_all<AttentionSm80<64>>({.batch = 2, .heads = 2, .queries = 129, .keys = 65, .dim = 64}, 3);
  run_all<AttentionSm80<128>>({.heads = 2, .queries = 63, .keys = 127, .dim = 80, .strength = 20}, 1);
  run_all<AttentionSm80<128>>({.queries = 65, .keys = 128, .dim = 128, .strength = -1}, 2);
  run_all<AttentionSm80<256>>({.queries = 17, .keys = 70, .dim = 200}, 1);
  run_all<AttentionSm80<64>>(
      {.batch = 5, .queries = 9, .keys = 130, .dim = 40, .lengths = {0, 1, 64, 129, 1000}}, 2);
  run_all<AttentionSm80<64>>({.heads = 2, .queries = 40, .keys = 67, .dim = 16, .bias = true}, 1);
  run_all<AttentionSm80<64>>(
      {.batch = 2, .queries = 5, .keys = 130, .dim = 32, .lengths = {130, 67}, .bias = true, .hidden = true},
      1);
  run_parts<AttentionSm80<64>>({.batch = 2, .queries = 140, .keys = 100, .dim = 24, .lengths = {33, 100}});
  run_parts<AttentionSm80<128>>({.batch = 2, .queries = 70, .keys = 70, .dim = 72, .bias = true});
  return sim::check::finish("attention_sm80");
}
