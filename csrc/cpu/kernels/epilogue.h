// What happens to finished sums on their way to memory (Epilogue in gemm.h): the last step of every product
// and convolution. The sums are still in L1; what counts is that nothing is decided again for every vector.
#pragma once

#include "cpu/kernels/gemm.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {

static inline Floats load_any(DType dtype, const void* base, int64_t index, int64_t n) {
  return dtype == DType::f32 ? load_some(static_cast<const float*>(base) + index, n)
                             : load_some(static_cast<const uint16_t*>(base) + index, n);
}

/// Rows row .. row + rows and columns col .. col + cols of the task; sums of a row are together, rows
/// `stride` apart and padded to whole vectors.
static inline void finish(const Epilogue& e, int64_t row, int64_t rows, int64_t col, int64_t cols,
                          const float* sums, int64_t stride) {
  with_activation(e.activation, [&](auto act) {
    with_stored(e.out_dtype, [&](auto element) {
      using Out = decltype(element);
      const Epilogue own = e;  // not reachable through `out`, so its fields stay in registers
      each_vector(cols, [&](int64_t c, int64_t n) {
        const Floats bias = own.bias ? load_some(own.bias + col + c, n) : Floats{};
        const float* from = sums + c;
        int64_t place = own.place(row), run_ends = row < own.run ? own.run : row - row % own.run + own.run;
        for (int64_t r = row; r < row + rows; r++, place++, from += stride) {
          if (r == run_ends) {
            place += own.run_places - own.run;
            run_ends += own.run;
          }
          const int64_t at = place * own.out_stride + col + c;
          Floats y = load(from) + bias;
          if (own.row_bias) y += own.row_scale * own.row_bias[place];
          y = act(y);
          if (own.gate) {
            const int64_t gate_row = (own.gate_row + r) / own.gate_rows;
            y *= load_any(own.gate_dtype, own.gate, gate_row * own.gate_stride + col + c, n);
          }
          if (own.residual) y += load_some(static_cast<const Out*>(own.residual) + at, n);
          store_some(static_cast<Out*>(own.out) + at, y, n);
        }
      });
    });
  });
}

}  // namespace fsv::cpu::FSV_ISA
