// Layer memory: the weights of all tokens, then the mix.
#include "cuda/backend.h"
#include "cuda/kernels/layer_memory.cuh"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {

using kernels::kMixHeld;
using kernels::kPack;
using kernels::kRouteThreads;

namespace {

bool is_aligned(const LayerMemoryArgs& args) {
  bool aligned = all_aligned({args.out.data, args.scale.data, args.shift.data});
  for (int i = 0; i < args.count; i++) aligned = aligned && all_aligned({args.states[i].data});
  return aligned;
}

template <class T, class Y, int N>
void launch_mix(cudaStream_t stream, bool pre_mix, kernels::MixTask mix) {
  TeamPlan plan =
      plan_teams(mix.tokens, mix.channels / N, kMixHeld<N>, kernels::kMixThreads, kLeastTeam<Y, N>);
  plan.shape.smem = kernels::kMixShared;
  mix.team = plan.team;
  launch(stream, pre_mix ? kernels::norm_then_mix<T, Y, N> : kernels::mix_then_norm<T, Y, N>,
         shape_of(plan.shape), mix);
}

/// Whether the mix makes a result of fp8 itself: of bf16, in whole packs.
bool quantizes(const LayerMemoryArgs& args) {
  return args.states[0].dtype == DType::bf16 && args.out.shape[2] % kPack<Bf16> == 0 && is_aligned(args);
}

}  // namespace

size_t CudaBackend::workspace_bytes(const LayerMemoryArgs& args) const {
  if (args.dtype == DType::f8e4m3 && !quantizes(args)) return two_pass_bytes(args);
  if (args.weights) return 0;
  const Shape& shape = args.router_input.shape;
  return static_cast<size_t>(shape[0] * shape[1] * args.count) * sizeof(float);
}

void CudaBackend::layer_memory(const LayerMemoryArgs& args) {
  const Shape& shape = args.out.shape;
  const int64_t tokens = shape[0] * shape[1], channels = shape[2];
  if (tokens * channels == 0) return;
  const bool fp8 = args.dtype == DType::f8e4m3;
  if (fp8 && !quantizes(args)) return then_quantize(&CudaBackend::layer_memory, args);
  kernels::RouteTask route = {.input = args.router_input.data,
                              .router = args.router.data,
                              .bias = args.router_bias.as<float>(),
                              .weights = args.weights ? args.weights.as<float>() : workspace<float>(),
                              .tokens = tokens,
                              .channels = channels,
                              .count = args.count};
  kernels::MixTask mix = {};
  for (int i = 0; i < args.count; i++) mix.states[i] = args.states[i].data;
  mix.weights = route.weights;
  mix.scale = args.scale.as<float>(), mix.shift = args.shift.as<float>();
  mix.out = args.out.data;
  mix.out_scales = args.out_scales.as<float>();
  mix.tokens = tokens, mix.tokens_a_sample = shape[1], mix.channels = channels;
  mix.count = args.count;
  mix.eps = args.eps;

  with_float(args.states[0].dtype, [&](auto x) {
    using T = decltype(x);
    const bool whole = channels % kPack<T> == 0,
               route_packs = whole && all_aligned({route.input, route.router});
    if (args.states[0].dtype == DType::bf16 && route_packs) {
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
    if constexpr (std::is_same_v<T, Bf16>) {
      if (fp8) return launch_mix<T, F8e4m3, kPack<T>>(stream(), args.pre_mix, mix);
    }
    with_pack<kPack<T>>(whole && is_aligned(args),
                        [&](auto n) { launch_mix<T, T, n>(stream(), args.pre_mix, mix); });
  });
}

}  // namespace fsv::cuda
