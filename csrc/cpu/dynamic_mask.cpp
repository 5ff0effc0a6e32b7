// The refiner's mask (paper 2.4.2): a map of differences, its range per sample, and the map written to every
// frame.
#include <algorithm>

#include "core/dtype.h"
#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

/// Turns the differences of one sample into its mask. All of it is in the order of pixels: no thread has a
/// say.
void to_mask(float* map, int64_t pixels, const DynamicMaskArgs& args) {
  const auto [least, most] = std::minmax_element(map, map + pixels);
  const float low = *least, spread = *most - *least;
  double total = 0;
  for (int64_t i = 0; i < pixels; i++) {
    const float error = spread > 0 ? args.lo + (args.hi - args.lo) * ((map[i] - low) / spread) : args.lo;
    map[i] = args.confidence ? args.lo + args.hi - error : error;
    total += static_cast<double>(map[i]);
  }
  if (args.scalar) std::fill_n(map, pixels, static_cast<float>(total / static_cast<double>(pixels)));
}

template <class T>
void write_frame(T* out, const float* map, int64_t pixels, int64_t channels) {
  for (int64_t i = 0; i < pixels; i++, out += channels)
    std::fill_n(out, channels, from_float<T>(map ? map[i] : 1.0f));
}

}  // namespace

void CpuBackend::dynamic_mask(const DynamicMaskArgs& args) {
  if (args.out.elements() == 0) return;
  const Shape& shape = args.a.shape;
  const int64_t samples = shape[0], pixels = shape[2] * shape[3], channels = shape[4];
  float* maps = static_cast<float*>(pool_.scratch(0, static_cast<size_t>(samples * pixels) * sizeof(float)));
  const DifferenceTask task = {
      .a = args.a.data, .b = args.b.data, .dtype = args.a.dtype, .channels = channels, .means = maps};
  pool_.parallel_for(
      samples * pixels, rows_a_range(channels * static_cast<int64_t>(size_of(args.a.dtype))),
      [&](int64_t begin, int64_t end, int) { kernels_.rows->mean_abs_difference(task, begin, end); });
  for (int64_t b = 0; b < samples; b++) to_mask(maps + b * pixels, pixels, args);

  const int64_t frame_size = pixels * args.channels;
  pool_.parallel_for(samples * args.frames, rows_a_range(frame_size * 4),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t i = begin; i < end; i++) {
                         const float* map = i % args.frames == 0 ? nullptr : maps + i / args.frames * pixels;
                         if (args.out.dtype == DType::bf16)
                           write_frame(args.out.as<Bf16>() + i * frame_size, map, pixels, args.channels);
                         else
                           write_frame(args.out.as<float>() + i * frame_size, map, pixels, args.channels);
                       }
                     });
}

}  // namespace fsv::cpu
