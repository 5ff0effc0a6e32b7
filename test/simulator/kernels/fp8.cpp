// fp8.cuh: rows to fp8 and back bit for bit as core/dtype.h has them, and the packing of a linear layer's
// weight.
#include "cuda/kernels/fp8.cuh"

#include <algorithm>
#include <cstring>
#include <random>

#include "simulator/cases/gemm_case.h"

namespace {

using namespace fsv;
using namespace fsv::test;
using namespace fsv::cuda::kernels;

bool equals(const std::string& name, const char* what, uint32_t got, uint32_t wanted) {
  return sim::check::equal(got, wanted, name + ": " + what);
}

dim3 grid(int rows) { return dim3((rows + kRowWarps - 1) / kRowWarps); }

/// The values of quantised rows, and their scales.
bool quantises(const char* name, DType dtype, int rows, int cols) {
  std::mt19937 random(5);
  const Matrix x(random, dtype, rows, cols, cols, 3);
  for (const sim::Options& options : schedules()) {
    sim::Global<uint8_t> codes(static_cast<size_t>(rows * cols));
    sim::Global<float> scales(static_cast<size_t>(rows));
    const Fp8Args args{.x = x.data(),
                       .out = codes.ptr(),
                       .scales = scales.ptr(),
                       .rows = rows,
                       .channels = cols,
                       .f32 = dtype == DType::f32};
    const sim::Report report =
        sim::launch(grid(rows), dim3(32 * kRowWarps), dim3(1), 0, options, [&] { quantize_fp8_rows(args); });
    if (!sound(report, name)) return false;
    for (int row = 0; row < rows; row++) {
      float largest = 0;
      for (int c = 0; c < cols; c++)
        largest = std::max(largest, std::abs(static_cast<float>(x.values[row * cols + c])));
      const float scale = largest / kF8e4m3Max;
      if (!equals(name, "scale", std::bit_cast<uint32_t>(scales[row]), std::bit_cast<uint32_t>(scale)))
        return false;
      for (int c = 0; c < cols; c++) {
        const uint8_t code = to_f8e4m3(static_cast<float>(x.values[row * cols + c]) / scale).bits;
        if (!equals(name, "code", codes[row * cols + c], code)) return false;
      }
    }
  }
  return true;
}

/// The same with a scale for 128 channels.
bool quantises_groups(const char* name, DType dtype, int rows, int cols) {
  std::mt19937 random(8);
  const Matrix x(random, dtype, rows, cols, cols, 3);
  const int groups = (cols + 127) / 128;
  for (const sim::Options& options : schedules()) {
    sim::Global<uint8_t> codes(static_cast<size_t>(rows * cols));
    sim::Global<float> scales(static_cast<size_t>(rows * groups));
    const Fp8Args args{.x = x.data(),
                       .out = codes.ptr(),
                       .scales = scales.ptr(),
                       .rows = rows,
                       .channels = cols,
                       .groups = groups,
                       .f32 = dtype == DType::f32};
    const sim::Report report =
        sim::launch(grid(rows), dim3(32 * kRowWarps), dim3(1), 0, options, [&] { quantize_fp8_rows(args); });
    if (!sound(report, name)) return false;
    sim::Global<float> back(static_cast<size_t>(rows * cols));
    const Fp8Args undo{.x = codes.ptr(),
                       .out = back.ptr(),
                       .scales = scales.ptr(),
                       .rows = rows,
                       .channels = cols,
                       .groups = groups,
                       .f32 = true};
    if (!sound(sim::launch(grid(rows), dim3(32 * kRowWarps), dim3(1), 0, options,
                           [&] { dequantize_fp8_rows(undo); }),
               name))
      return false;
    for (int i = 0; i < rows * cols; i++) {
      const int row = i / cols, group = i % cols / 128, first = row * cols + group * 128;
      float largest = 0;
      for (int c = first; c < std::min(first + 128, (row + 1) * cols); c++)
        largest = std::max(largest, std::abs(static_cast<float>(x.values[c])));
      const float scale = largest / kF8e4m3Max;
      const F8e4m3 code = to_f8e4m3(static_cast<float>(x.values[i]) / scale);
      if (!equals(name, "scale", std::bit_cast<uint32_t>(scales[row * groups + group]),
                  std::bit_cast<uint32_t>(scale)) ||
          !equals(name, "code", codes[i], code.bits) ||
          !equals(name, "value", std::bit_cast<uint32_t>(back[i]),
                  std::bit_cast<uint32_t>(to_float(code) * scale)))
        return false;
    }
  }
  return true;
}

/// Rows of zeros have a scale of 1.
bool keeps_zeros() {
  const sim::Global<float> x(std::vector<float>(40));
  sim::Global<uint8_t> codes(40);
  sim::Global<float> scales(1);
  const Fp8Args args{.x = const_cast<sim::Global<float>&>(x).ptr(),
                     .out = codes.ptr(),
                     .scales = scales.ptr(),
                     .rows = 1,
                     .channels = 40,
                     .f32 = true};
  const sim::Report report =
      sim::launch(dim3(1), dim3(32 * kRowWarps), dim3(1), 0, {}, [&] { quantize_fp8_rows(args); });
  return sound(report, "zeros") && equals("zeros", "scale", scales[0] == 1, 1) &&
         equals("zeros", "code", codes[39], 0);
}

bool dequantises(const char* name, DType dtype, int rows, int cols) {
  std::mt19937 random(6);
  const Matrix codes(random, DType::f8e4m3, rows, cols, cols, 40),
      scales(random, DType::f32, 1, rows, rows, 1);
  const size_t size = size_of(dtype);
  sim::Global<uint8_t> out(static_cast<size_t>(rows * cols) * size);
  const Fp8Args args{.x = codes.data(),
                     .out = out.ptr(),
                     .scales = static_cast<float*>(scales.data()),
                     .rows = rows,
                     .channels = cols,
                     .f32 = dtype == DType::f32};
  const sim::Report report =
      sim::launch(grid(rows), dim3(32 * kRowWarps), dim3(1), 0, {}, [&] { dequantize_fp8_rows(args); });
  if (!sound(report, name)) return false;
  for (int i = 0; i < rows * cols; i++) {
    const float wanted = static_cast<float>(codes.values[i]) * static_cast<float>(scales.values[i / cols]);
    const uint32_t bits = size == 4 ? std::bit_cast<uint32_t>(wanted) : to_bf16(wanted).bits;
    uint32_t got = 0;
    std::memcpy(&got, out.ptr() + i * size, size);
    if (!equals(name, "value", got, bits)) return false;
  }
  return true;
}

/// Rows of `stride`, as they were or times their scales, and zeros behind them.
bool packs(const char* name, DType dtype, int rows, int cols, int stride) {
  std::mt19937 random(7);
  const Matrix weight(random, dtype, rows, cols, cols, 2), scales(random, DType::f32, 1, rows, rows, 1);
  const bool fp8 = dtype == DType::f8e4m3;
  const size_t size = dtype == DType::f32 ? 4 : 2;
  sim::Global<uint8_t> out(static_cast<size_t>(rows * stride) * size);
  const PackRowsArgs args{weight.data(),
                          fp8 ? static_cast<const float*>(scales.data()) : nullptr,
                          out.ptr(),
                          rows,
                          cols,
                          stride,
                          dtype == DType::f32};
  const sim::Report report =
      sim::launch(grid(rows), dim3(32 * kRowWarps), dim3(1), 0, {}, [&] { pack_rows(args); });
  if (!sound(report, name)) return false;
  for (int row = 0; row < rows; row++)
    for (int c = 0; c < stride; c++) {
      const float scale = fp8 ? static_cast<float>(scales.values[row]) : 1.0f;
      const float wanted = (c < cols ? static_cast<float>(weight.values[row * cols + c]) : 0.0f) * scale;
      const uint32_t bits = size == 4 ? std::bit_cast<uint32_t>(wanted) : to_bf16(wanted).bits;
      uint32_t got = 0;
      std::memcpy(&got, out.ptr() + (row * stride + c) * size, size);
      if (!equals(name, "element", got, bits)) return false;
    }
  return true;
}

bool all() {
  return quantises("f32 in fours", DType::f32, 9, 260) && quantises("bf16, odd", DType::bf16, 3, 77) &&
         quantises("one", DType::f32, 1, 1) && quantises_groups("groups of f32", DType::f32, 9, 260) &&
         quantises_groups("groups of bf16, odd", DType::bf16, 2, 133) && keeps_zeros() &&
         dequantises("to f32", DType::f32, 9, 132) && dequantises("to bf16, odd", DType::bf16, 3, 33) &&
         packs("bf16", DType::bf16, 9, 136, 136) && packs("bf16, odd", DType::bf16, 3, 77, 80) &&
         packs("f32, odd", DType::f32, 3, 5, 8) && packs("fp8", DType::f8e4m3, 5, 140, 144) &&
         packs("fp8, odd", DType::f8e4m3, 2, 9, 16);
}

}  // namespace

int main() {
  all();
  return sim::check::finish("fp8");
}
