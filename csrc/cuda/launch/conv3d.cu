#include "cuda/backend.h"
#include "cuda/kernels/conv3d_depthwise.cuh"
#include "cuda/kernels/conv3d_portable.cuh"
#include "cuda/kernels/conv3d_sm90.cuh"
#include "cuda/launch/conv3d_plan.h"
#include "cuda/launch/pack_conv.h"
#include "cuda/tensor_map.h"
#include "ops/conv_norm.h"

namespace fsv::cuda {
namespace {

using namespace kernels;

/// A call; its weight is packed when it is launched.
struct Call {
  cudaStream_t stream;
  const Conv3dArgs& args;
  const void* weight;
  Conv conv;
  ConvLayout layout;
  ConvEpilogue epilogue;

  Call(cudaStream_t s, const Conv3dArgs& a)
      : stream(s),
        args(a),
        weight(a.weight.data),
        conv(conv_of(a)),
        layout(conv_layout(a.x.dtype, a.weight.shape, a.groups)) {
    if (a.bias) epilogue.bias = a.bias.as<const float>();
    if (a.noise) epilogue.noise = a.noise.as<const float>();
    epilogue.noise_weight = a.noise_weight;
    epilogue.norm = a.norm;
    if (a.norm_weight) epilogue.norm_weight = a.norm_weight.as<const float>();
    if (a.norm_bias) epilogue.norm_bias = a.norm_bias.as<const float>();
    epilogue.norm_eps = a.norm_eps;
    epilogue.activation = a.activation;
    if (a.residual) epilogue.residual = a.residual.data;
    epilogue.out = a.out.data;
  }
  const void* x() const { return args.x.data; }
  const void* before() const { return conv.before > 0 ? args.before.data : nullptr; }
};

template <class Tile>
void launch_sm90(const Call& call, const Conv3dPlan& plan) {
  const Conv& c = call.conv;
  const ConvBox& b = plan.box;
  // A map has no empty dimension, so what is not there is never asked for under the other's name.
  const CUtensorMap before = c.before > 0 ? make(brick_map(c, b, call.before(), c.before)) : CUtensorMap{};
  const CUtensorMap x = c.frames > 0 ? make(brick_map(c, b, call.x(), c.frames)) : before;
  const CUtensorMap out =
      b.store_by_tma ? make(out_map(c, b, Tile::kPanel, call.args.out.data)) : CUtensorMap{};
  launch(call.stream, conv3d_sm90<Tile>,
         {.grid = static_cast<unsigned>(plan.blocks),
          .block = Tile::kThreads,
          .smem = static_cast<size_t>(plan.shared_bytes)},
         x, before, make(weight_map(call.layout, b, Tile::kN, call.weight)), out,
         Conv3dTask{c, b, call.epilogue});
}

template <class Tile>
void launch_portable(const Call& call) {
  launch(call.stream, conv3d_portable<Tile>,
         {.grid = blocks(conv_gather_blocks<Tile>(call.conv), 1),
          .block = Tile::kThreads,
          .smem = kConvGatherShared<Tile>},
         gather_task(call.conv, call.layout, sizeof(typename Tile::Element), call.x(), call.before(),
                     call.weight, call.epilogue));
}

template <class Tile>
void launch_depthwise(const Call& call) {
  launch(call.stream, conv3d_depthwise<Tile>,
         {.grid = blocks(depthwise_blocks<Tile>(call.conv), 1), .block = Tile::kThreads},
         DepthwiseTask{call.conv, call.x(), call.before(), call.weight, call.epilogue});
}

template <class T, int kWide>
void launch_depthwise(const Call& call) {
  const Conv& c = call.conv;
  const bool aligned = is_aligned(call.x()) && is_aligned(call.before()) && is_aligned(call.weight) &&
                       is_aligned(call.epilogue.residual) && is_aligned(call.epilogue.out);
  if (c.channels % kWide != 0 || !aligned) return launch_depthwise<DepthwiseTile<T, 1, 0>>(call);
  if (c.stride_w == 1 && c.kw == 3) return launch_depthwise<DepthwiseTile<T, kWide, 3>>(call);
  if (c.stride_w == 1 && c.kw == 5) return launch_depthwise<DepthwiseTile<T, kWide, 5>>(call);
  launch_depthwise<DepthwiseTile<T, kWide, 0>>(call);
}

void launch_sm90(const Call& call, const Conv3dPlan& plan) {
  switch (plan.tile) {
    case ConvTile::b2n128:
      return launch_sm90<Conv3dTile<2, 128>>(call, plan);
    case ConvTile::b1n128:
      return launch_sm90<Conv3dTile<1, 128>>(call, plan);
    case ConvTile::b2n64:
      return launch_sm90<Conv3dTile<2, 64>>(call, plan);
    case ConvTile::b2n32:
      return launch_sm90<Conv3dTile<2, 32>>(call, plan);
    case ConvTile::b2n16:
      return launch_sm90<Conv3dTile<2, 16>>(call, plan);
  }
}

/// Sizes of one dimension, and the terms of a sum, are ints in the kernels, with room for padding and
/// strides.
void require_sizes(const Conv3dArgs& args) {
  constexpr int64_t kMost = 1 << 30;
  const auto require = [&](int64_t size) {
    if (size > kMost)
      throw Error(code::kUnsupportedDevice,
                  text("the CUDA backend takes sizes up to ", kMost, ", not ", size));
  };
  for (const TensorView* view : {&args.x, &args.out})
    for (int i = 0; i < 5; i++) require(view->shape[i]);
  require(args.weight.elements() / args.weight.shape[0]);
}

}  // namespace

size_t CudaBackend::workspace_bytes(const Conv3dArgs& args) const {
  return args.weight.layout == Layout::plain ? packed_conv_bytes(args.weight, args.groups) : 0;
}

void CudaBackend::conv3d(const Conv3dArgs& args) {
  if (args.out.elements() == 0) return;
  require_sizes(args);
  Call call(stream(), args);
  const bool f32 = args.x.dtype == DType::f32;
  const Conv3dPlan plan =
      plan_conv3d(call.conv, call.layout,
                  {card().hopper(), card().processors, static_cast<int>(card().shared_bytes)}, args.norm);
  if (args.norm && plan.kernel != ConvKernel::sm90) {
    conv3d(without_norm(args));
    return pixel_norm(norm_of(args));
  }
  if (args.weight.layout == Layout::plain) {
    pack_conv(stream(), args.weight, args.groups, workspace<void>());
    call.weight = workspace<void>();
  }
  switch (plan.kernel) {
    case ConvKernel::sm90:
      return launch_sm90(call, plan);
    case ConvKernel::depthwise:
      return f32 ? launch_depthwise<float, 4>(call) : launch_depthwise<uint16_t, 8>(call);
    case ConvKernel::portable:
      if (f32) return launch_portable<ConvFmaTile>(call);
      return call.conv.out > 32 ? launch_portable<ConvMmaTile<128, 2>>(call)
                                : launch_portable<ConvMmaTile<32, 4>>(call);
  }
}

}  // namespace fsv::cuda
