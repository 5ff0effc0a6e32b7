// Layer memory: the weights of all tokens, then the mix.
#include "cuda/backend.h"
#include "cuda/kernels/layer_memory.cuh"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {

using kernels::kMixHeld;
using kernels::kPack;
using kernels::kRouteThreads;

size_t CudaBackend::workspace_bytes(const LayerMemoryArgs& args) const {
  if (args.weights) return 0;
  const Shape& shape = args.router_input.shape;
  return static_cast<size_t>(shape[0] * shape[1] * args.count) * sizeof(float);
}

void CudaBackend::layer_memory(const LayerMemoryArgs& args) {
  const Shape& shape = args.out.shape;
  const int64_t tokens = shape[0] * shape[1], channels = shape[2];
  if (tokens * channels == 0) return;
  kernels::RouteTask route = {.input = args.router_input.data,
                              .router = args.router.data,
                              .bias = args.router_bias.as<float>(),
                              .weights = args.weights ? args.weights.as<float>() : workspace<float>(),
                              .tokens = tokens,
                              .channels = channels,
                              .count = args.count};
  kernels::MixTask mix = {};
  bool aligned = all_aligned({args.out.data, args.scale.data, args.shift.data});
  for (int i = 0; i < args.count; i++) {
    mix.states[i] = args.states[i].data;
    aligned = aligned && is_aligned(mix.states[i]);
  }
  mix.weights = route.weights;
  mix.scale = args.scale.as<float>(), mix.shift = args.shift.as<float>();
  mix.out = args.out.data;
  mix.tokens = tokens, mix.tokens_a_sample = shape[1], mix.channels = channels;
  mix.count = args.count;
  mix.eps = args.eps;

  with_float(args.out.dtype, [&](auto x) {
    using T = decltype(x);
    const bool whole = channels % kPack<T> == 0,
               route_packs = whole && all_aligned({route.input, route.router});
    if (args.out.dtype == DType::bf16 && route_packs) {
      launch(kernels::route_mma,
             {.grid = blocks(std::min(tokens, kMostBlocks), kernels::kRouteTokens),
              .block = kRouteThreads,
              .smem = kernels::kRouteShared},
             route);
    } else {
      with_pack<kPack<T>>(route_packs, [&](auto n) {
        launch(kernels::route<T, n>,
               {.grid = blocks(std::min(tokens, kMostBlocks), kRouteThreads / 32), .block = kRouteThreads},
               route);
      });
    }
    with_pack<kPack<T>>(whole && aligned, [&](auto n) {
      constexpr int N = n;
      TeamPlan plan = plan_teams(tokens, channels / N, kMixHeld<N>, kernels::kMixThreads);
      plan.shape.smem = kernels::kMixShared;
      mix.team = plan.team;
      launch(args.pre_mix ? kernels::norm_then_mix<T, N> : kernels::mix_then_norm<T, N>, shape_of(plan.shape),
             mix);
    });
  });
}

}  // namespace fsv::cuda
