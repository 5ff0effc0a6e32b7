// Moves through shared memory and across lanes: transposed planes, and the pixel shuffles' traffic.
#include "cuda/kernels/move.cuh"
#include "cuda/kernels/shuffle.cuh"
#include "simulator/cases/rows.h"

namespace {

using namespace fsv;
using namespace fsv::cuda;
using namespace rows;
using kernels::Axis;

/// [planes, rows, columns] -> [planes, columns, rows] in few blocks, so that each does several squares.
template <class T>
void transpose(int64_t planes, int64_t rows, int64_t columns, bool count) {
  std::vector<T> values(static_cast<size_t>(planes * rows * columns));
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<T>(i * 2654435761u);
  Global<T> x(values);
  kernels::CopyTask task = {.from = x.ptr(), .to = nullptr, .outer_count = 1, .planes = planes};
  task.outer[0] = {planes, rows * columns, rows * columns};
  task.rows = {columns, 1, rows}, task.columns = {rows, columns, 1};
  const GridPlan shape = {.grid = 2, .block = kernels::kSquareThreads, .smem = kernels::kSquareShared};
  const std::string what = "transpose of " + std::to_string(rows) + " x " + std::to_string(columns);
  for (const sim::Options& options : sim::check::schedules()) {
    Global<T> out(values.size());
    task.to = out.ptr();
    if (!sim::check::ok(launch(kernels::transpose<sizeof(T)>, shape, options, task), what)) continue;
    int64_t wrong = 0;
    for (int64_t p = 0; p < planes; p++)
      for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
          wrong += out[(p * columns + c) * rows + r] != values[(p * rows + r) * columns + c];
    sim::check::equal(wrong, 0, what + ": wrong elements");
    if (count && options.schedule == sim::Schedule::order)
      cheap(launch(kernels::transpose<sizeof(T)>, shape, counting(), task),
            2 * planes * rows * columns * static_cast<int64_t>(sizeof(T)), what);
  }
}

struct Shuffle {
  int64_t samples, frames, height, width, channels;  // of the coarse side, the fine side's channels
  int time, space;
  int64_t edge;
};

kernels::ShuffleTask task_of(const Shuffle& s, int64_t x_channels, int64_t share) {
  kernels::ShuffleTask task = {};
  task.inputs[0] = {nullptr, x_channels, share};
  task.inputs[1] = {nullptr, 1, 1};
  task.samples = s.samples, task.frames = s.frames, task.height = s.height, task.width = s.width;
  task.fine_frames = s.frames * s.time - s.edge;
  task.time = s.time, task.space = s.space, task.edge = s.edge;
  return task;
}

/// Full channel f of a coarse pixel on the fine side, or -1 where its frame is not there.
int64_t fine_of(const Shuffle& s, int64_t pixel, int64_t f) {
  const int64_t places = s.time * s.space * s.space, place = f % places;
  const int64_t w = pixel % s.width, h = pixel / s.width % s.height,
                t = pixel / s.width / s.height % s.frames;
  const int64_t b = pixel / s.width / s.height / s.frames, frames = s.frames * s.time - s.edge;
  const int64_t frame = t * s.time + place / (s.space * s.space) - s.edge;
  if (frame < 0) return -1;
  const int64_t y = h * s.space + place / s.space % s.space, x = w * s.space + place % s.space;
  return (((b * frames + frame) * s.height * s.space + y) * s.width * s.space + x) * s.channels + f / places;
}

/// There and back: both kernels by one table of places.
template <class T, int N>
void shuffle(const Shuffle& s, bool count) {
  const int64_t pixels = s.samples * s.frames * s.height * s.width;
  const int64_t full = s.channels * s.time * s.space * s.space;
  const int64_t fine =
      (pixels * s.time - s.samples * s.height * s.width * s.edge) * s.space * s.space * s.channels;
  Global<T> coarse(random<T>(pixels * full)), x(random<T>(fine));
  const auto shape = [&](int64_t packs) {
    return plan_sheet(s.width, packs, s.samples * s.frames * s.height);
  };
  for (const sim::Options& options : sim::check::schedules()) {
    const bool counted = count && options.schedule == sim::Schedule::order;
    Global<T> out(fine), back(pixels * full);
    kernels::ShuffleTask task = task_of(s, full, 1);
    task.inputs[0].data = coarse.ptr(), task.out = out.ptr(), task.channels = s.channels;
    task.vector = N > 1;
    if (!sim::check::ok(launch(kernels::shuffle<T, N>, shape(full / N), options, task), "shuffle")) continue;
    int64_t wrong = 0;
    for (int64_t p = 0; p < pixels; p++)
      for (int64_t f = 0; f < full; f++) {
        const int64_t at = fine_of(s, p, f);
        wrong += at >= 0 && to_float(out[at]) != to_float(coarse[p * full + f]);
      }
    sim::check::equal(wrong, 0, "shuffle: wrong elements");
    if (counted)
      cheap(launch(kernels::shuffle<T, N>, shape(full / N), counting(), task), 2 * fine * int64_t{sizeof(T)},
            "shuffle");

    task = task_of(s, s.channels, 1);
    task.inputs[0].data = x.ptr(), task.out = back.ptr(), task.channels = full;
    if (!sim::check::ok(launch(kernels::unshuffle<T, N>, shape(full / N), options, task), "unshuffle"))
      continue;
    wrong = 0;
    for (int64_t p = 0; p < pixels; p++)
      for (int64_t f = 0; f < full; f++) {
        const int64_t at = fine_of(s, p, f);
        wrong += at >= 0 && to_float(x[at]) != to_float(back[p * full + f]);
      }
    sim::check::equal(wrong, 0, "unshuffle: wrong elements");
    if (counted)
      cheap(launch(kernels::unshuffle<T, N>, shape(full / N), counting(), task),
            2 * fine * int64_t{sizeof(T)}, "unshuffle");
  }
}

/// Means of two channels of every place, over one.
void average(const Shuffle& s) {
  const int64_t pixels = s.samples * s.frames * s.height * s.width, places = s.time * s.space * s.space;
  const int64_t share = 2 * places, channels = s.channels / 2;
  const int64_t fine = pixels * places * s.channels;
  Global<float> x(random<float>(fine)), out(pixels * channels);
  kernels::ShuffleTask task = task_of(s, s.channels, share);
  task.inputs[0].data = x.ptr(), task.out = out.ptr(), task.channels = channels;
  std::vector<double> want(static_cast<size_t>(pixels * channels));
  for (int64_t p = 0; p < pixels; p++)
    for (int64_t f = 0; f < channels * share; f++)
      want[p * channels + f / share] += double(x[fine_of(s, p, f)]) / static_cast<double>(share);
  const GridPlan shape = plan_sheet(s.width, channels, s.samples * s.frames * s.height);
  for (const sim::Options& options : sim::check::schedules())
    if (sim::check::ok(launch(kernels::unshuffle<float, 1>, shape, options, task), "average"))
      sim::check::near(exact(out), want, want.size(), 0x1p-20, "average");
}

}  // namespace

int main() {
  transpose<uint32_t>(1, 128, 192, true);
  transpose<uint16_t>(3, 64, 128, true);
  transpose<uint8_t>(2, 67, 130, false);
  transpose<uint32_t>(5, 1, 33, false);
  shuffle<Bf16, 4>({1, 2, 3, 4, 32, 1, 2, 0}, true);
  shuffle<Bf16, 4>({1, 2, 2, 2, 64, 2, 2, 0}, true);
  shuffle<float, 4>({2, 3, 2, 2, 8, 2, 2, 1}, false);
  shuffle<float, 1>({2, 2, 1, 3, 5, 3, 1, 2}, false);
  average({2, 2, 3, 2, 6, 2, 3, 0});
  return sim::check::finish("rows_move");
}
