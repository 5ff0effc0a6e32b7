// The 3D pixel shuffles.
#include "cuda/backend.h"
#include "cuda/kernels/shuffle.cuh"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {
namespace {

using kernels::ShuffleTask;

/// What both have in common; `coarse` is the side with few pixels, share(channels) belongs to an input.
template <class Args, class Share>
ShuffleTask task_of(const Args& args, const Shape& coarse, int64_t fine_frames, int64_t edge,
                    const Share& share) {
  ShuffleTask task = {};
  task.inputs[0] = {args.x.data, args.x.shape[4], share(args.x.shape[4])};
  task.inputs[1] = {nullptr, 1, 1};
  if (args.shortcut) {
    const int64_t channels = args.shortcut.shape[4];
    task.inputs[1] = {args.shortcut.data, channels, share(channels)};
  }
  task.out = args.out.data;
  task.samples = coarse[0], task.frames = coarse[1], task.height = coarse[2], task.width = coarse[3];
  task.fine_frames = fine_frames;
  task.time = static_cast<int>(args.time), task.space = static_cast<int>(args.space);
  task.channels = args.channels;
  task.edge = edge;
  return task;
}

/// Packs of 4 keep the lanes together on the fine side where they divide the places.
constexpr int kShufflePack = 4;

LaunchShape shape_for(const ShuffleTask& task, int64_t packs) {
  return shape_of(plan_sheet(task.width, packs, task.samples * task.frames * task.height));
}

}  // namespace

void CudaBackend::unshuffle3d(const Unshuffle3dArgs& args) {
  if (args.out.elements() == 0) return;
  const int64_t places = args.time * args.space * args.space;
  const ShuffleTask task = task_of(args, args.out.shape, args.x.shape[1], args.repeat_first,
                                   [&](int64_t channels) { return channels * places / args.channels; });
  const bool packs = places % kShufflePack == 0 && args.channels % kShufflePack == 0 && is_aligned(task.out);
  with_float(args.x.dtype, [&](auto x) {
    with_pack<kShufflePack>(packs, [&](auto n) {
      launch(kernels::unshuffle<decltype(x), n>, shape_for(task, args.channels / n), task);
    });
  });
}

void CudaBackend::shuffle3d(const Shuffle3dArgs& args) {
  if (args.out.elements() == 0) return;
  const int64_t places = args.time * args.space * args.space, full = args.channels * places;
  ShuffleTask task = task_of(args, args.x.shape, args.out.shape[1], args.drop_first,
                             [&](int64_t channels) { return full / channels; });
  const bool packs = places % kShufflePack == 0;
  task.vector = packs && task.inputs[0].share == 1 && is_aligned(args.x.data);
  with_float(args.x.dtype, [&](auto x) {
    with_pack<kShufflePack>(
        packs, [&](auto n) { launch(kernels::shuffle<decltype(x), n>, shape_for(task, full / n), task); });
  });
}

}  // namespace fsv::cuda
