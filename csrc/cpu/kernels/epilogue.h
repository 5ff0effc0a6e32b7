// What happens to finished sums on their way to memory (Epilogue in gemm.h): the last step of every product
// and convolution.
#pragma once

#include "cpu/kernels/gemm.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {

static inline Floats activate(Activation activation, Floats x) {
  switch (activation) {
    case Activation::silu:
      return silu(x);
    case Activation::relu:
      return relu(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::none:
      break;
  }
  return x;
}

static inline Floats load_any(DType dtype, const void* base, int64_t index, int64_t n) {
  return dtype == DType::f32 ? load_some(static_cast<const float*>(base) + index, n)
                             : load_some(static_cast<const uint16_t*>(base) + index, n);
}

/// Rows row .. row + rows and columns col .. col + cols of the task; sums of a row are together, rows
/// `stride` apart and padded to whole vectors.
static inline void finish(const Epilogue& e, int64_t row, int64_t rows, int64_t col, int64_t cols,
                          const float* sums, int64_t stride) {
  for (int64_t r = row; r < row + rows; r++, sums += stride) {
    const int64_t gate_at = e.gate ? (e.gate_row + r) / e.gate_rows * e.gate_stride : 0;
    const Floats row_term = e.row_bias ? set(e.row_scale * e.row_bias[r]) : Floats{};
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int64_t n = cols - c, at = r * e.out_stride + col + c;
      Floats y = load(sums + c);
      if (e.bias) y += load_some(e.bias + col + c, n);
      if (e.row_bias) y += row_term;
      y = activate(e.activation, y);
      if (e.gate) y *= load_any(e.gate_dtype, e.gate, gate_at + col + c, n);
      if (e.residual) y += load_any(e.out_dtype, e.residual, at, n);
      if (e.out_dtype == DType::f32)
        store_some(static_cast<float*>(e.out) + at, y, n);
      else
        store_some(static_cast<uint16_t*>(e.out) + at, y, n);
    }
  }
}

}  // namespace fsv::cpu::FSV_ISA
