// Layer memory: weights by mma and by plain products, both mixes, rows longer than registers, and that a
// state is read once.
#include <algorithm>

#include "cuda/kernels/layer_memory.cuh"
#include "simulator/cases/rows.h"

namespace {

using namespace fsv;
using namespace fsv::cuda;
using namespace rows;

struct Case {
  int64_t samples, tokens, channels;
  int count;
};

template <class T, int N>
void memory(const Case& c, bool counted) {
  const int64_t tokens = c.samples * c.tokens, size = tokens * c.channels;
  const std::string what = "layer memory of " + std::to_string(c.count) + " states " +
                           std::to_string(tokens) + " x " + std::to_string(c.channels);
  Global<T> input(random<T>(size)),
      router(random<T>(c.count * c.channels, 2.0f / std::sqrt(float(c.channels))));
  Global<float> bias(random<float>(c.count)), scale(random<float>(c.samples * c.channels)),
      shift(random<float>(c.samples * c.channels));
  std::vector<std::unique_ptr<Global<T>>> states;
  for (int i = 0; i < c.count; i++)
    states.push_back(std::make_unique<Global<T>>(random<T>(size, 1 + i / 4.0f, i / 3.0f - 1)));

  std::vector<double> want_weights;
  std::vector<std::vector<double>> wide;
  for (const auto& state : states) wide.push_back(exact(*state));
  const std::vector<double> wide_input = exact(input), wide_router = exact(router);
  for (int64_t t = 0; t < tokens; t++) {
    std::vector<double> powers;
    double total = 0;
    for (int i = 0; i < c.count; i++) {
      double logit = bias[i];
      for (int64_t k = 0; k < c.channels; k++)
        logit += wide_input[t * c.channels + k] * wide_router[i * c.channels + k];
      powers.push_back(std::exp(logit));
      total += powers.back();
    }
    for (const double power : powers) want_weights.push_back(power / total);
  }
  const auto norm = [&](std::vector<double> row) {
    double mean = 0, squares = 0;
    for (const double v : row) mean += v / static_cast<double>(row.size());
    for (const double v : row) squares += (v - mean) * (v - mean) / static_cast<double>(row.size());
    for (double& v : row) v = (v - mean) / std::sqrt(squares + 1e-6);
    return row;
  };
  const auto reference = [&](bool pre_mix) {
    std::vector<double> want;
    for (int64_t t = 0; t < tokens; t++) {
      std::vector<double> mixed(c.channels);
      for (int i = 0; i < c.count; i++) {
        std::vector<double> row(wide[i].begin() + t * c.channels, wide[i].begin() + (t + 1) * c.channels);
        if (pre_mix) row = norm(row);
        for (int64_t k = 0; k < c.channels; k++) mixed[k] += want_weights[t * c.count + i] * row[k];
      }
      if (!pre_mix) mixed = norm(mixed);
      for (int64_t k = 0; k < c.channels; k++) {
        const int64_t at = t / c.tokens * c.channels + k;
        want.push_back(mixed[k] * (1.0 + scale[at]) + shift[at]);
      }
    }
    return want;
  };
  const std::vector<double> want[2] = {reference(false), reference(true)};

  TeamPlan plan = plan_teams(tokens, c.channels / N, kernels::kMixHeld<N>, kernels::kMixThreads);
  plan.shape.smem = kernels::kMixShared;
  plan.shape.grid.x = std::min(plan.shape.grid.x, 2u);
  for (const sim::Options& options : sim::check::schedules()) {
    const std::string with = what + ", " + sim::check::name_of(options);
    Global<float> weights(tokens * c.count);
    const kernels::RouteTask route = {.input = input.ptr(),
                                      .router = router.ptr(),
                                      .bias = bias.ptr(),
                                      .weights = weights.ptr(),
                                      .tokens = tokens,
                                      .channels = c.channels,
                                      .count = c.count};
    const GridPlan by_warps = {.grid = 1, .block = kernels::kRouteThreads};
    const GridPlan by_blocks = {.grid = 1, .block = kernels::kRouteThreads, .smem = kernels::kRouteShared};
    const sim::Report report = std::is_same_v<T, Bf16> && N > 1
                                   ? launch(kernels::route_mma, by_blocks, options, route)
                                   : launch(kernels::route<T, N>, by_warps, options, route);
    if (!sim::check::ok(report, with)) continue;
    if (std::is_same_v<T, Bf16> && N > 1 && options.schedule == sim::Schedule::order)
      on_all_banks(launch(kernels::route_mma, by_blocks, counting(), route), 1.0, with + ": weights");
    sim::check::near(exact(weights), want_weights, want_weights.size(), 0x1p-18, with + ": weights");

    for (const bool pre_mix : {false, true}) {
      Global<T> out(size);
      kernels::MixTask mix = {};
      for (int i = 0; i < c.count; i++) mix.states[i] = states[i]->ptr();
      mix.weights = weights.ptr(), mix.scale = scale.ptr(), mix.shift = shift.ptr(), mix.out = out.ptr();
      mix.tokens = tokens, mix.tokens_a_sample = c.tokens, mix.channels = c.channels;
      mix.count = c.count, mix.team = plan.team, mix.eps = 1e-6f;
      const auto kernel = pre_mix ? kernels::norm_then_mix<T, T, N> : kernels::mix_then_norm<T, T, N>;
      if constexpr (std::is_same_v<T, Bf16> && N > 1) {
        const int64_t groups = (c.channels + kScaleGroup - 1) / kScaleGroup;
        Global<F8e4m3> codes(size);
        Global<float> scales(static_cast<size_t>(tokens * groups));
        kernels::MixTask fp8 = mix;
        TeamPlan wide = plan_teams(tokens, c.channels / N, kernels::kMixHeld<N>, kernels::kMixThreads,
                                   kLeastTeam<F8e4m3, N>);
        wide.shape.smem = kernels::kMixShared;
        fp8.out = codes.ptr(), fp8.out_scales = scales.ptr(), fp8.team = wide.team;
        const auto quantising =
            pre_mix ? kernels::norm_then_mix<T, F8e4m3, N> : kernels::mix_then_norm<T, F8e4m3, N>;
        if (sim::check::ok(launch(quantising, wide.shape, options, fp8), with))
          near_fp8(codes, scales, want[pre_mix], c.channels, with + ": fp8");
      }
      if (sim::check::ok(launch(kernel, plan.shape, options, mix), with))
        sim::check::near(exact(out), want[pre_mix], want[pre_mix].size(), 2 * kTolerance<T>,
                         with + (pre_mix ? ": pre_mix" : ": post_mix"));
      if (!counted || options.schedule != sim::Schedule::order) continue;
      mix.scale = mix.shift = nullptr;
      const sim::Report moved = launch(kernel, plan.shape, counting(), mix);
      const int64_t least = (c.count + 1) * size * static_cast<int64_t>(sizeof(T));
      uint64_t bytes = 0;
      for (const auto& [site, counter] : moved.global) bytes += counter.bytes;
      // Each thread asks for the weights of its token; they are few, and one line of them serves a whole
      // block.
      bytes -= static_cast<uint64_t>(tokens * c.count * plan.team) * 4 * (pre_mix ? 1 : kernels::kMixHeld<N>);
      sim::check::equal(static_cast<long long>(bytes), least, with + ": bytes of global memory");
    }
  }
}

}  // namespace

int main() {
  memory<Bf16, 8>({2, 18, 192, 5}, false);  // teams of lanes; two blocks of tokens for mma, the second short
  memory<Bf16, 8>({1, 3, 2048, 41}, true);  // teams of warps, every lane with as much
  memory<Bf16, 8>({1, 2, 6200, 3}, false);  // longer than registers
  memory<float, 4>({1, 33, 64, 64}, false);
  memory<float, 1>({2, 2, 1601, 9}, false);  // longer than registers, by elements
  return sim::check::finish("rows_layer_memory");
}
