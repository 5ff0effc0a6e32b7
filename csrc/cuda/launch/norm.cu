// The norms of single rows, and the rotary embedding.
#include "cuda/backend.h"
#include "cuda/kernels/norm.cuh"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {
namespace {

using kernels::kNormHeld;
using kernels::kPack;

int64_t row_count(const TensorView& x) { return x.shape.elements(0, x.shape.rank - 1); }

bool is_aligned(const kernels::NormTask& task) {
  return all_aligned({task.x, task.out, task.residual, task.weight, task.bias, task.scale, task.shift});
}

template <class X, class Y, int N>
void launch_norm(cudaStream_t stream, kernels::NormTask task) {
  TeamPlan plan =
      plan_teams(task.rows, task.channels / N, kNormHeld<N>, kernels::kRowThreads, kLeastTeam<Y, N>);
  plan.shape.smem = kernels::kRowShared;
  task.team = plan.team;
  launch(stream, kernels::norm_rows<X, Y, N>, shape_of(plan.shape), task);
}

/// norm_modulate, pixel_norm and qk_norm_rope without rotations are uses of one kernel.
void launch_norm(cudaStream_t stream, const kernels::NormTask& task, DType x_dtype, DType out_dtype) {
  with_float(x_dtype, [&](auto x) {
    using X = decltype(x);
    if constexpr (std::is_same_v<X, Bf16>) {
      if (out_dtype == DType::f8e4m3) return launch_norm<X, F8e4m3, kPack<X>>(stream, task);
    }
    with_float(out_dtype, [&](auto y) {
      using Y = decltype(y);
      with_pack<kPack<X, Y>>(is_aligned(task) && task.channels % kPack<X, Y> == 0,
                             [&](auto n) { launch_norm<X, Y, n>(stream, task); });
    });
  });
}

kernels::NormTask task_of(const NormModulateArgs& args) {
  return {.x = args.x.data,
          .out = args.out.data,
          .out_scales = args.out_scales.as<float>(),
          .residual = nullptr,
          .weight = args.weight.as<float>(),
          .bias = args.bias.as<float>(),
          .scale = args.scale.as<float>(),
          .shift = args.shift.as<float>(),
          .rows = row_count(args.x),
          .rows_a_sample = args.x.shape.elements(1, args.x.shape.rank - 1),
          .channels = args.x.shape[-1],
          .team = 0,
          .activation = Activation::none,
          .rms = args.rms,
          .eps = args.eps};
}

/// Whether the kernel makes a result of fp8 itself: of bf16, in whole packs.
bool quantizes(const NormModulateArgs& args) {
  return args.x.dtype == DType::bf16 && args.x.shape[-1] % kPack<Bf16> == 0 && is_aligned(task_of(args));
}

}  // namespace

size_t CudaBackend::workspace_bytes(const NormModulateArgs& args) const {
  return args.dtype == DType::f8e4m3 && !quantizes(args) ? two_pass_bytes(args) : 0;
}

void CudaBackend::norm_modulate(const NormModulateArgs& args) {
  if (args.x.elements() == 0) return;
  if (args.dtype == DType::f8e4m3 && !quantizes(args))
    return then_quantize(&CudaBackend::norm_modulate, args);
  launch_norm(stream(), task_of(args), args.x.dtype, args.dtype);
}

void CudaBackend::pixel_norm(const PixelNormArgs& args) {
  if (args.x.elements() == 0) return;
  launch_norm(stream(),
              {.x = args.x.data,
               .out = args.out.data,
               .out_scales = nullptr,
               .residual = args.residual.data,
               .weight = args.weight.as<float>(),
               .bias = args.bias.as<float>(),
               .scale = nullptr,
               .shift = nullptr,
               .rows = row_count(args.x),
               .rows_a_sample = 1,
               .channels = args.x.shape[-1],
               .team = 0,
               .activation = args.activation,
               .rms = true,
               .eps = args.eps},
              args.x.dtype, args.out.dtype);
}

void CudaBackend::qk_norm_rope(const QkNormRopeArgs& args) {
  if (args.x.elements() == 0) return;
  const int64_t channels = args.x.shape[2], head_dim = channels / args.heads;
  if (!args.rotations && !args.weight)
    return copy(args.out.data, args.x.data, static_cast<size_t>(args.x.bytes()));
  if (!args.rotations)
    return launch_norm(stream(),
                       {.x = args.x.data,
                        .out = args.out.data,
                        .out_scales = nullptr,
                        .residual = nullptr,
                        .weight = args.weight.as<float>(),
                        .bias = nullptr,
                        .scale = nullptr,
                        .shift = nullptr,
                        .rows = row_count(args.x),
                        .rows_a_sample = 1,
                        .channels = channels,
                        .team = 0,
                        .activation = Activation::none,
                        .rms = true,
                        .eps = args.eps},
                       args.x.dtype, args.out.dtype);
  kernels::RopeTask task = {.x = args.x.data,
                            .out = args.out.data,
                            .weight = args.weight.as<float>(),
                            .rotations = args.rotations.as<float>(),
                            .rows = row_count(args.x),
                            .tokens = args.x.shape[1],
                            .channels = channels,
                            .head_dim = kernels::Divisor(head_dim),
                            .team = 0,
                            .eps = args.eps};
  const bool aligned = all_aligned({task.x, task.out, task.weight, task.rotations});
  with_float(args.x.dtype, [&](auto x) {
    using T = decltype(x);
    const auto run = [&](auto n) {
      constexpr int N = n;
      TeamPlan plan = plan_teams(task.rows, channels / N, kNormHeld<N>, kernels::kRowThreads);
      plan.shape.smem = kernels::kRowShared;
      task.team = plan.team;
      launch(kernels::norm_rope<T, N>, shape_of(plan.shape), task);
    };
    if (aligned && head_dim % kPack<T> == 0)
      run(std::integral_constant<int, kPack<T>>{});
    else
      run(std::integral_constant<int, 2>{});
  });
}

}  // namespace fsv::cuda
