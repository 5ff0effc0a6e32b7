// The portable attention kernel in the simulator.
#include "cuda/kernels/attention_sm80.cuh"

#include "simulator/kernels/attention_case.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

template <class Tile>
void run(const AttentionCase& c, unsigned grid) {
  const AttentionData<Bf16> data(c);
  for (const sim::Options& options : schedules()) {
    AttentionMemory<Bf16> memory(data);
    const AttentionProblem problem = memory.problem(Tile::kQueries);
    const sim::Report report =
        sim::launch({grid, 1, 1}, {Tile::kThreads, 1, 1}, {1, 1, 1}, Tile::kSharedBytes, options, [&] {
          attention_sm80<Tile>(memory.q.ptr(), memory.k.ptr(), memory.v.ptr(), memory.out.ptr(), problem);
        });
    memory.check(report, data, Tile::kQueries, c.text() + " " + sim::check::name_of(options));
  }
}

}  // namespace

int main() {
  run<AttentionSm80<64>>({.queries = 1, .keys = 1, .dim = 8}, 1);
  run<AttentionSm80<64>>({.batch = 2, .heads = 2, .queries = 129, .keys = 65, .dim = 64}, 3);
  run<AttentionSm80<128>>({.heads = 2, .queries = 63, .keys = 127, .dim = 80, .strength = 20}, 1);
  run<AttentionSm80<128>>({.queries = 65, .keys = 128, .dim = 128, .strength = -1}, 2);
  run<AttentionSm80<256>>({.queries = 17, .keys = 70, .dim = 200}, 1);
  run<AttentionSm80<64>>({.batch = 5, .queries = 9, .keys = 130, .dim = 40, .lengths = {0, 1, 64, 129, 1000}},
                         2);
  run<AttentionSm80<64>>({.heads = 2, .queries = 40, .keys = 67, .dim = 16, .bias = true}, 1);
  run<AttentionSm80<64>>(
      {.batch = 2, .queries = 5, .keys = 130, .dim = 32, .lengths = {130, 67}, .bias = true, .hidden = true},
      1);
  return sim::check::finish("attention_sm80");
}
