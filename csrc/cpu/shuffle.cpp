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

int64_t places_of(const ShuffleTask& task) { return task.time * task.space * task.space; }

/// The worker's buffers: `full` channels, a row of the result, an offset a place.
void set_buffers(ShuffleTask& task, void* scratch, int64_t full) {
  task.offsets = static_cast<int64_t*>(scratch);
  task.full = reinterpret_cast<float*>(task.offsets + places_of(task));
  task.row = task.full + full + kShufflePadding;
}
size_t buffer_bytes(const ShuffleTask& task, int64_t full) {
  return sizeof(int64_t) * static_cast<size_t>(places_of(task)) +
         sizeof(float) * static_cast<size_t>(full + task.channels + 2 * kShufflePadding);
}

}  // namespace

void CpuBackend::unshuffle3d(const Unshuffle3dArgs& args) {
  if (args.out.elements() == 0) return;
  const ShuffleTask task = task_of(args, args.repeat_first);
  const int64_t full = std::max(task.inputs[0].channels, task.inputs[1].channels) * places_of(task);
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
  const int64_t full = args.channels * places_of(task);
  const size_t bytes = buffer_bytes(task, full);
  pool_.parallel_for(args.x.shape.elements(0, 4), rows_a_range(full * 4),
                     [&](int64_t begin, int64_t end, int worker) {
                       ShuffleTask mine = task;
                       set_buffers(mine, pool_.scratch(worker, bytes), full);
                       kernels_.rows->shuffle(mine, begin, end);
                     });
}

}  // namespace fsv::cpu
