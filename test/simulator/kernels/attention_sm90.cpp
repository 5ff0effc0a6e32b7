// The Hopper attention kernel in the simulator.
#include "cuda/kernels/attention_sm90.cuh"
#include "simulator/kernels/attention_case.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using test::AttentionCase, test::AttentionData, test::Schedule;

namespace {

int failures = 0;

template <class Tile>
void run(const AttentionCase& c, unsigned grid, const Schedule& schedule) {
  const AttentionData<uint16_t> data(c);
  sim::Global<uint16_t> q(data.store(data.q)), k(data.store(data.k)), v(data.store(data.v)), out(data.q.size());
  sim::Global<float> bias(data.bias);
  sim::Global<int32_t> lengths(c.lengths);
  const auto map = [&](uint16_t* p, int rows, int box) {
    const int64_t head = c.dim * 2, token = c.heads * head;
    return sim::encode_tiled(p, 2, {c.dim, c.heads, rows, c.batch}, {head, token, rows * token}, {64, 1, box, 1},
                             ptx::SW_128);
  };
  const auto query_map = map(q.ptr(), c.queries, Tile::kGroupQueries), key_map = map(k.ptr(), c.keys, Tile::kKeys),
             value_map = map(v.ptr(), c.keys, Tile::kKeys), out_map = map(out.ptr(), c.queries, Tile::kGroupQueries);
  AttentionProblem problem;
  problem.queries = c.queries, problem.keys = c.keys, problem.heads = c.heads, problem.dim = c.dim;
  problem.query_tiles = (c.queries + Tile::kQueries - 1) / Tile::kQueries;
  problem.tiles = problem.query_tiles * c.heads * c.batch;
  problem.scale = c.scale();
  if (c.bias) problem.bias = bias.ptr();
  if (!c.lengths.empty()) problem.key_lengths = lengths.ptr();
  sim::Options options;
  options.sched = schedule.sched, options.async = schedule.async, options.seed = schedule.seed;
  options.banks = schedule.async == sim::Async::Eager;
  const sim::Report report = sim::launch({grid, 1, 1}, {Tile::kThreads, 1, 1}, Tile::kSharedBytes, options, [&] {
    attention_sm90<Tile>(query_map, key_map, value_map, out_map, problem);
  });
  std::string wrong = report.first();
  if (wrong.empty()) wrong = data.judge(out.ptr());
  for (const auto& [where, bank] : report.banks)
    if (wrong.empty() && bank.wavefronts > bank.ideal) wrong = "BANKS conflicts at " + where;
  if (wrong.empty()) return;
  failures++;
  std::printf("%s, tile %d x %d, %s: %s\n", c.text().c_str(), Tile::kDim, Tile::kKeys, schedule.name, wrong.c_str());
}

template <class Tile>
void run_all(const AttentionCase& c, unsigned grid) {
  for (const Schedule& schedule : test::kSchedules) run<Tile>(c, grid, schedule);
}

}  // namespace

int main() {
  using D128N128 = AttentionSm90<128, 128, false>;
  using D128N160 = AttentionSm90<128, 160, false>;
  using D64 = AttentionSm90<64, 128, false>;
  using D64Bias = AttentionSm90<64, 128, true>;
  // One key; a key more than a block; rings that wrap over several tiles of a block of threads.
  run_all<D128N128>({.queries = 1, .keys = 1, .dim = 128}, 1);
  run_all<D128N128>({.heads = 2, .queries = 127, .keys = 257, .dim = 128}, 1);
  run_all<D128N128>({.batch = 2, .heads = 2, .queries = 129, .keys = 127, .dim = 128}, 3);
  run_all<D128N160>({.queries = 63, .keys = 321, .dim = 128, .strength = 20}, 1);
  run_all<D128N160>({.heads = 3, .queries = 130, .keys = 160, .dim = 80}, 2);
  run_all<D64>({.batch = 2, .heads = 3, .queries = 257, .keys = 129, .dim = 64}, 4);
  run_all<D64>({.queries = 128, .keys = 512, .dim = 8}, 1);
  // Samples of other lengths than the keys that are there; those behind are NaN.
  run_all<D128N128>({.batch = 4, .queries = 65, .keys = 300, .dim = 128, .lengths = {0, 1, 256, 300}}, 2);
  run_all<D64>({.batch = 4, .queries = 65, .keys = 300, .dim = 64, .lengths = {127, 1000, 129, -5}}, 1);
  run_all<D64Bias>({.batch = 2, .heads = 2, .queries = 70, .keys = 131, .dim = 64, .bias = true}, 2);
  run_all<D64Bias>({.batch = 2, .queries = 5, .keys = 260, .dim = 32, .lengths = {260, 133}, .bias = true, .hidden = true}, 1);
  return failures != 0;
}
