// Rows of channels that are scaled and shifted alike: affine, and what group_norm leaves to do.
#pragma once

#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/pack.cuh"
#include "cuda/kernels/sheet.cuh"

namespace fsv::cuda::kernels {

struct AffineTask {
  const void* x;
  void* out;
  const void* residual;       ///< as x
  const float *mean, *scale;  ///< [samples, channels]
  const float* shift;         ///< [channels]
  int64_t samples, rows_a_sample, channels;
  Activation activation;
};

/// out = act((x - mean) * scale + shift + residual); mean, shift and residual may be null. A sample to a z of
/// the grid.
template <class X, class Y, int N>
FSV_KERNEL void FSV_BOUNDS(256, 4) affine(AffineTask task) {
  const int64_t channels = task.channels;
  FSV_ROLLED
  for (int64_t sample = blockIdx.z; sample < task.samples; sample += gridDim.z)
    each_column(channels / N, [&](int64_t column) {
      const int64_t c = column * N;
      float mean[N] = {}, scale[N], shift[N] = {};
      if (task.mean) load(task.mean + sample * channels + c, mean);
      load(task.scale + sample * channels + c, scale);
      if (task.shift) load(task.shift + c, shift);
      each_row(task.rows_a_sample, [&](int64_t row) {
        const int64_t at = (sample * task.rows_a_sample + row) * channels + c;
        float v[N], residual[N] = {};
        load(static_cast<const X*>(task.x) + at, v);
        if (task.residual) load(static_cast<const X*>(task.residual) + at, residual);
        FSV_UNROLL
        for (int n = 0; n < N; n++) v[n] = fmaf(v[n] - mean[n], scale[n], shift[n]) + residual[n];
        activate(task.activation, v);
        store(static_cast<Y*>(task.out) + at, v);
      });
    });
}

}  // namespace fsv::cuda::kernels
