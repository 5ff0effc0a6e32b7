// The Hopper attention kernel in the simulator.
#include "cuda/kernels/attention_sm90.cuh"

#include "simulator/cases/attention_case.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

/// Runs on `grid` blocks, fewer than there are tiles, so that rings wrap and places are taken again.
template <class Tile>
std::vector<Bf16> run(const AttentionData<Bf16>& data, unsigned grid, const sim::Options& options) {
  const AttentionCase& c = data.c;
  AttentionMemory<Bf16> memory(data);
  const auto map = [&](Bf16* p, int rows, int box) {
    const int64_t head = c.dim * 2, token = c.heads * head;
    return sim::encode_tiled(p, 2, {c.dim, c.heads, rows, c.batch}, {head, token, rows * token},
                             {64, 1, box, 1}, ptx::SW_128);
  };
  const auto query_map = map(memory.q.ptr(), c.queries, Tile::kGroupQueries),
             key_map = map(memory.k.ptr(), c.keys, Tile::kKeys),
             value_map = map(memory.v.ptr(), c.keys, Tile::kKeys),
             out_map = map(memory.out.ptr(), c.queries, Tile::kGroupQueries);
  const AttentionProblem problem = memory.problem(Tile::kQueries);
  const sim::Report report =
      sim::launch({grid, 1, 1}, {Tile::kThreads, 1, 1}, {1, 1, 1}, Tile::kSharedBytes, options,
                  [&] { attention_sm90<Tile>(query_map, key_map, value_map, out_map, problem); });
  memory.check(report, data, Tile::kQueries, c.text() + " " + sim::check::name_of(options));
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
  using Wide = AttentionSm90<128, 128, false>;
  using WideLong = AttentionSm90<128, 160, false>;
  using Narrow = AttentionSm90<64, 128, false>;
  using NarrowBias = AttentionSm90<64, 128, true>;
  run_all<Wide>({.queries = 1, .keys = 1, .dim = 128}, 1);
  run_all<Wide>({.heads = 2, .queries = 127, .keys = 257, .dim = 128}, 1);
  run_all<Wide>({.batch = 2, .heads = 2, .queries = 129, .keys = 127, .dim = 128}, 3);
  run_all<WideLong>({.queries = 63, .keys = 321, .dim = 128, .strength = 20}, 1);
  run_all<WideLong>({.heads = 3, .queries = 130, .keys = 160, .dim = 80}, 2);
  run_all<Narrow>({.batch = 2, .heads = 3, .queries = 257, .keys = 129, .dim = 64}, 4);
  run_all<Narrow>({.queries = 128, .keys = 512, .dim = 8}, 1);
  run_all<Wide>({.batch = 4, .queries = 65, .keys = 300, .dim = 128, .lengths = {0, 1, 256, 300}}, 2);
  run_all<Narrow>({.batch = 4, .queries = 65, .keys = 300, .dim = 64, .lengths = {127, 1000, 129, -5}}, 1);
  run_all<NarrowBias>({.batch = 2, .heads = 2, .queries = 70, .keys = 131, .dim = 64, .bias = true}, 2);
  run_all<NarrowBias>(
      {.batch = 2, .queries = 5, .keys = 260, .dim = 32, .lengths = {260, 133}, .bias = true, .hidden = true},
      1);
  run_parts<Narrow>({.batch = 2, .heads = 2, .queries = 150, .keys = 200, .dim = 48, .lengths = {77, 190}});
  run_parts<NarrowBias>({.batch = 2, .queries = 70, .keys = 140, .dim = 64, .bias = true});
  return sim::check::finish("attention_sm90");
}
