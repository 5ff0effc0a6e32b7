// Scheduling of the 3D pixel shuffles: ranges of pixels on the side where they are few.
#include <algorithm>

#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

template <class Args>
ShuffleTask task_of(const Args& args, int64_t edge) {
  const Shape& x = args.x.shape;
  ShuffleTask task = {};
  task.inputs[0] = {args.x.data, x[4]};
  if (args.shortcut) task.inputs[1] = {args.shortcut.data, args.shortcut.shape[4]};
  task.out = args.out.data;
  task.dtype = args.x.dtype;
  task.frames = x[1], task.height = x[2], task.width = x[3];
  task.time = args.time, task.space = args.space, task.channels = args.channels;
  task.edge = edge;
  return task;
}

/// The worker's buffers: `full` channels, then a row of the result.
void set_buffers(ShuffleTask& task, void* scratch, int64_t full) {
  task.full = static_cast<float*>(scratch);
  task.row = task.full + full + kShufflePadding;
}
size_t buffer_bytes(const ShuffleTask& task, int64_t full) {
  return sizeof(float) * static_cast<size_t>(full + task.channels + 2 * kShufflePadding);
}

}  // namespace

void CpuBackend::unshuffle3d(const Unshuffle3dArgs& args) {
  if (args.out.elements() == 0) return;
  const ShuffleTask task = task_of(args, args.repeat_first);
  const int64_t places = args.time * args.space * args.space;
  const int64_t full = std::max(task.inputs[0].channels, task.inputs[1].channels) * places;
  const size_t bytes = buffer_bytes(task, full);
  pool_.parallel_for(args.out.shape.elements(0, 4), rows_a_range(full * 4),
                     [&](int64_t begin, int64_t end, int worker) {
                       ShuffleTask mine = task;
                       set_buffers(mine, pool_.scratch(worker, bytes), full);
                       kernels_.rows->unshuffle(mine, begin, end);
                     });
}

void CpuBackend::shuffle3d(const Shuffle3dArgs& args) {
  if (args.out.elements() == 0) return;
  const ShuffleTask task = task_of(args, args.drop_first);
  const int64_t full = args.channels * args.time * args.space * args.space;
  const size_t bytes = buffer_bytes(task, full);
  pool_.parallel_for(args.x.shape.elements(0, 4), rows_a_range(full * 4),
                     [&](int64_t begin, int64_t end, int worker) {
                       ShuffleTask mine = task;
                       set_buffers(mine, pool_.scratch(worker, bytes), full);
                       kernels_.rows->shuffle(mine, begin, end);
                     });
}

}  // namespace fsv::cpu
