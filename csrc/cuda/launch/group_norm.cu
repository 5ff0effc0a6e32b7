// group_norm: statistics of pieces, their merger, and the affine map that it leaves to do. Also affine
// itself.
#include "cuda/backend.h"
#include "cuda/kernels/affine.cuh"
#include "cuda/kernels/group_norm.cuh"
#include "cuda/launch/group_norm_plan.h"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {
namespace {

using kernels::kPack;
using kernels::kStatsThreads;

void launch_affine(cudaStream_t stream, const kernels::AffineTask& task, DType x_dtype, DType out_dtype) {
  const bool aligned = all_aligned({task.x, task.out, task.residual, task.mean, task.scale, task.shift});
  with_float(x_dtype, [&](auto x) {
    with_float(out_dtype, [&](auto y) {
      using X = decltype(x);
      using Y = decltype(y);
      with_pack<kPack<X, Y>>(aligned && task.channels % kPack<X, Y> == 0, [&](auto n) {
        constexpr int N = n;
        launch(stream, kernels::affine<X, Y, N>,
               shape_of(plan_sheet(task.rows_a_sample, task.channels / N, task.samples)), task);
      });
    });
  });
}

}  // namespace

void CudaBackend::affine(const AffineArgs& args) {
  if (args.x.elements() == 0) return;
  launch_affine(stream(),
                {.x = args.x.data,
                 .out = args.out.data,
                 .residual = nullptr,
                 .mean = nullptr,
                 .scale = args.scale.as<float>(),
                 .shift = args.shift.as<float>(),
                 .samples = 1,
                 .rows_a_sample = args.x.shape.elements(0, args.x.shape.rank - 1),
                 .channels = args.x.shape[-1],
                 .activation = Activation::none},
                args.x.dtype, args.out.dtype);
}

size_t CudaBackend::workspace_bytes(const GroupNormArgs& args) const {
  if (args.x.elements() == 0) return 0;
  const StatsPlan plan = plan_stats(args.x, args.groups);
  return static_cast<size_t>(2 * plan.vector_bytes + plan.stats_bytes);
}

void CudaBackend::group_norm(const GroupNormArgs& args) {
  if (args.x.elements() == 0) return;
  StatsPlan plan = plan_stats(args.x, args.groups);
  char* memory = workspace<char>();
  float* mean = reinterpret_cast<float*>(memory);
  float* scale = reinterpret_cast<float*>(memory + plan.vector_bytes);
  plan.task.x = args.x.data;
  plan.task.stats = reinterpret_cast<kernels::Spread*>(memory + 2 * plan.vector_bytes);

  with_float(args.x.dtype, [&](auto x) {
    using T = decltype(x);
    with_pack<kPack<T>>(plan.pack > 1, [&](auto n) {
      launch(kernels::group_stats<T, n>, shape_of(stats_shape(plan)), plan.task);
    });
  });
  launch(kernels::group_merge,
         {.grid = blocks(std::min(plan.samples * args.groups, kMostBlocks), kStatsThreads / 32),
          .block = kStatsThreads},
         kernels::GroupMergeTask{.stats = plan.task,
                                 .weight = args.weight.as<float>(),
                                 .mean = mean,
                                 .scale = scale,
                                 .samples = plan.samples,
                                 .eps = args.eps});
  launch_affine(stream(),
                {.x = args.x.data,
                 .out = args.out.data,
                 .residual = args.residual.data,
                 .mean = mean,
                 .scale = scale,
                 .shift = args.bias.as<float>(),
                 .samples = plan.samples,
                 .rows_a_sample = plan.task.rows,
                 .channels = plan.task.channels,
                 .activation = args.activation},
                args.x.dtype, args.out.dtype);
}

}  // namespace fsv::cuda
