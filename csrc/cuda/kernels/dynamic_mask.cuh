// The refiner's mask (paper 2.4.2): a map of differences, its range in each sample, and the map written to
// every frame.
#pragma once

#include "cuda/kernels/row.cuh"
#include "cuda/kernels/sheet.cuh"

namespace fsv::cuda::kernels {

inline constexpr int kDifferenceHeld = 2;

struct DifferenceTask {
  const void *a, *b;
  float* map;  ///< [rows]
  int64_t rows, channels;
  int team;
};

/// map[row] = mean of |a - b|.
template <class T, int N>
FSV_KERNEL void FSV_BOUNDS(kRowThreads, 1) mean_difference(DifferenceTask task) {
  Team team(task.team);
  team.each_row(task.rows, [&](int64_t row, bool present) {
    const auto source = [&](int64_t c) {
      float a[N], b[N];
      load(static_cast<const T*>(task.a) + row * task.channels + c, a);
      load(static_cast<const T*>(task.b) + row * task.channels + c, b);
      Pack<float, N> distance;
      FSV_UNROLL
      for (int n = 0; n < N; n++) distance.elements[n] = fabsf(a[n] - b[n]);
      return distance;
    };
    Row<N, kDifferenceHeld, decltype(source)> values(team, present ? task.channels : 0, source);
    const float sum = team.sum(values.sum());
    if (present && team.rank() == 0) ptx::stg(task.map + row, sum / static_cast<float>(task.channels));
  });
}

struct MaskTask {
  float* map;  ///< [samples, pixels], differences, in place the mask
  int64_t pixels;
  float lo, hi;
  bool scalar, confidence;
};

/// A block a sample.
FSV_KERNEL void FSV_BOUNDS(kRowThreads, 1) mask_of_differences(MaskTask task) {
  Team team(kRowThreads);
  float* map = task.map + int64_t{blockIdx.x} * task.pixels;
  float least = INFINITY, most = -INFINITY;
  for (int64_t i = threadIdx.x; i < task.pixels; i += kRowThreads) {
    const float v = ptx::ldg_coherent(map + i);
    least = fminf(least, v), most = fmaxf(most, v);
  }
  least = -team.largest(-least), most = team.largest(most);
  const float spread = most - least;
  float total = 0;
  for (int64_t i = threadIdx.x; i < task.pixels; i += kRowThreads) {
    float v = task.lo;
    if (spread > 0) v += (task.hi - task.lo) * ((ptx::ldg_coherent(map + i) - least) / spread);
    if (task.confidence) v = task.lo + task.hi - v;
    total += v;
    if (!task.scalar) ptx::stg(map + i, v);
  }
  if (!task.scalar) return;
  const float mean = team.sum(total) / static_cast<float>(task.pixels);
  for (int64_t i = threadIdx.x; i < task.pixels; i += kRowThreads) ptx::stg(map + i, mean);
}

struct FramesTask {
  const float* map;  ///< [samples, pixels]
  void* out;         ///< [samples, frames, pixels, channels]
  int64_t samples, frames, pixels, channels;
};

/// Frame 0 is 1, every other the map. A sample to a z of the grid, a frame to a row.
template <class T>
FSV_KERNEL void FSV_BOUNDS(256, 4) write_frames(FramesTask task) {
  const int64_t size = task.pixels * task.channels;
  FSV_ROLLED
  for (int64_t sample = blockIdx.z; sample < task.samples; sample += gridDim.z)
    each_column(size, [&](int64_t i) {
      const float of_map[1] = {ptx::ldg(task.map + sample * task.pixels + i / task.channels)},
                  one[1] = {1.0f};
      each_row(task.frames, [&](int64_t frame) {
        store(static_cast<T*>(task.out) + (sample * task.frames + frame) * size + i,
              frame == 0 ? one : of_map);
      });
    });
}

}  // namespace fsv::cuda::kernels
