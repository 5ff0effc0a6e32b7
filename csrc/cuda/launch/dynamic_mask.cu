// The refiner's mask: differences, their range a sample, and the frames.
#include "cuda/backend.h"
#include "cuda/kernels/dynamic_mask.cuh"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {

using kernels::kPack;

size_t CudaBackend::workspace_bytes(const DynamicMaskArgs& args) const {
  return static_cast<size_t>(args.a.shape.elements(0, 4)) * sizeof(float);
}

void CudaBackend::dynamic_mask(const DynamicMaskArgs& args) {
  if (args.out.elements() == 0) return;
  const Shape& shape = args.a.shape;
  const int64_t samples = shape[0], pixels = shape[2] * shape[3], channels = shape[4];
  float* map = workspace<float>();
  kernels::DifferenceTask difference = {.a = args.a.data,
                                        .b = args.b.data,
                                        .map = map,
                                        .rows = samples * pixels,
                                        .channels = channels,
                                        .team = 0};
  with_float(args.a.dtype, [&](auto x) {
    using T = decltype(x);
    with_pack<kPack<T>>(all_aligned({args.a.data, args.b.data}) && channels % kPack<T> == 0, [&](auto n) {
      TeamPlan plan =
          plan_teams(difference.rows, channels / n, kernels::kDifferenceHeld, kernels::kRowThreads);
      plan.shape.smem = kernels::kRowShared;
      difference.team = plan.team;
      launch(kernels::mean_difference<T, n>, shape_of(plan.shape), difference);
    });
  });
  launch(kernels::mask_of_differences,
         {.grid = static_cast<unsigned>(samples), .block = kernels::kRowThreads, .smem = kernels::kRowShared},
         kernels::MaskTask{.map = map,
                           .pixels = pixels,
                           .lo = args.lo,
                           .hi = args.hi,
                           .scalar = args.scalar,
                           .confidence = args.confidence});
  const kernels::FramesTask frames = {.map = map,
                                      .out = args.out.data,
                                      .samples = samples,
                                      .frames = args.frames,
                                      .pixels = pixels,
                                      .channels = args.channels};
  with_float(args.out.dtype, [&](auto y) {
    launch(kernels::write_frames<decltype(y)>,
           shape_of(plan_sheet(frames.frames, pixels * args.channels, samples)), frames);
  });
}

}  // namespace fsv::cuda
