// Depth-wise convolution: vectors run over channels, a strip of output pixels keeps its sums in registers
// over all taps.
#include "cpu/kernels/conv.h"
#include "cpu/kernels/epilogue.h"
#include "cpu/kernels/gemm_registers.h"

namespace fsv::cpu::FSV_ISA {
namespace {

constexpr int kStrip = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 16 : 8;

/// Pixels first .. first + P of the vector of channels from `c` on.
template <int P>
void strip(const DepthwiseTask& task, int64_t first, int64_t c, float* to, int64_t to_stride) {
  Floats sums[P] = {};
  const Window& window = task.window;
  const int64_t step = window.stride * task.channels;
  for (int64_t s = 0; s < window.segments; s++) {
    const float* from = reinterpret_cast<const float*>(window.input + window.offsets[s]) + first * step + c;
    const float* weight = reinterpret_cast<const float*>(window.weight + window.weight_offsets[s]) + c;
    RowPointers<P> pixels(reinterpret_cast<const char*>(from), Steps{step * 4});
    for (int64_t i = 0; i < window.kw; i++, pixels.advance(task.channels * 4), weight += task.weight_stride) {
      const Floats w = load(weight);
#pragma GCC unroll 16
      for (int p = 0; p < P; p++) sums[p] = fma(pixels.template at<Floats>(p, 0), w, sums[p]);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) store(to + p * to_stride, sums[p]);
}

}  // namespace

void depthwise(const DepthwiseTask& task) {
  alignas(64) float sums[kStrip * kDepthwiseChannels];
  for (int64_t first = 0; first < task.pixels; first += kStrip) {
    const int64_t pixels = task.pixels - first < kStrip ? task.pixels - first : kStrip;
    for (int64_t c = 0; c < task.cols; c += kLanes) {
      if (pixels == kStrip)
        strip<kStrip>(task, first, c, sums + c, kDepthwiseChannels);
      else
        for (int64_t p = 0; p < pixels; p++)
          strip<1>(task, first + p, c, sums + p * kDepthwiseChannels + c, kDepthwiseChannels);
    }
    finish(task.epilogue, first, pixels, 0, task.cols, sums, kDepthwiseChannels);
  }
}

}  // namespace fsv::cpu::FSV_ISA
