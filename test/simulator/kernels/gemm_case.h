// A GEMM with everything that may follow it, computed in double: what the tests of the GEMM kernels compare
// with.
#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "cuda/kernels/gemm_epilogue.cuh"
#include "simulator/kernels/harness.h"

namespace fsv::test {

enum class Gate { none, sample, element };

struct GemmCase {
  const char* name;
  int m, n, k;
  bool bias = false;
  Activation activation = Activation::none;
  Gate gate = Gate::none;
  bool residual = false;
  bool out_f32 = false;
  bool scales = false;   ///< of the rows of x and W
  bool groups = false;   ///< of groups of x, and of the rows of W
  bool out_fp8 = false;  ///< with scales of groups

  int scales_a_row() const { return groups ? (k + 127) / 128 : 1; }
};

inline double activate(Activation kind, double x) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

/// A matrix as a kernel has it: f32, bf16 or fp8 in global memory, and its values.
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::mt19937& random, DType dtype, int rows, int cols, int stride, double spread) : dtype_(dtype) {
    std::normal_distribution<double> normal(0, spread);
    std::vector<uint8_t> bytes(static_cast<size_t>(rows) * stride * size_of(dtype));
    for (int r = 0; r < rows; r++)
      for (int c = 0; c < stride; c++) {
        const float drawn = c < cols ? static_cast<float>(normal(random)) : 0.0f;
        const float value = put(bytes, static_cast<size_t>(r) * stride + c, drawn);
        if (c < cols) values.push_back(value);
      }
    memory = std::make_unique<sim::Global<uint8_t>>(bytes);
  }
  void* data() const { return memory ? memory->ptr() : nullptr; }

  std::vector<double> values;
  std::unique_ptr<sim::Global<uint8_t>> memory;

 private:
  float put(std::vector<uint8_t>& bytes, size_t at, float value) const {
    if (dtype_ == DType::f32) return store(bytes, at, value);
    if (dtype_ == DType::bf16) return store(bytes, at, to_bf16(value));
    return store(bytes, at, to_f8e4m3(value));
  }
  template <class T>
  static float store(std::vector<uint8_t>& bytes, size_t at, T value) {
    std::memcpy(&bytes[at * sizeof(T)], &value, sizeof(T));
    return to_float(value);
  }
  DType dtype_ = DType::f32;
};

/// A case with its operands, its epilogue for a kernel, and the truth.
class GemmProblem {
 public:
  GemmProblem(const GemmCase& c, DType dtype, int x_stride, int w_stride) : of(c) {
    std::mt19937 random(static_cast<unsigned>(c.m * 31 + c.n * 7 + c.k));
    const DType result = c.out_f32 ? DType::f32 : DType::bf16;
    x = Matrix(random, dtype, c.m, c.k, x_stride, dtype == DType::f8e4m3 ? 4 : 1);
    w = Matrix(random, dtype, c.n, c.k, w_stride, (dtype == DType::f8e4m3 ? 4 : 1) / std::sqrt(c.k + 1.0));
    if (c.bias) bias_ = Matrix(random, DType::f32, 1, c.n, c.n, 1);
    if (c.gate == Gate::sample) gate_ = Matrix(random, DType::f32, samples(), c.n, c.n, 1);
    if (c.gate == Gate::element) gate_ = Matrix(random, result, c.m, c.n, c.n, 1);
    if (c.residual) residual_ = Matrix(random, result, c.m, c.n, c.n, 1);
    if (c.scales || c.groups) {
      x_scale_ = Matrix(random, DType::f32, c.m, c.scales_a_row(), c.scales_a_row(), 0.5);
      col_scale_ = Matrix(random, DType::f32, 1, c.n, c.n, 0.5);
    }
    out_ = std::make_unique<sim::Global<uint8_t>>(static_cast<size_t>(c.m) * c.n *
                                                  (c.out_f32   ? 4
                                                   : c.out_fp8 ? 1
                                                               : 2));
    if (c.out_fp8)
      out_scales_ = std::make_unique<sim::Global<float>>(static_cast<size_t>(c.m) * out_groups());
    for (int row = 0; row < c.m; row++)
      for (int col = 0; col < c.n; col++) truth_.push_back(compute(row, col));
  }

  int samples() const { return of.gate == Gate::sample ? 2 : 1; }

  cuda::kernels::GemmEpilogue epilogue() const {
    cuda::kernels::GemmEpilogue e;
    e.bias = static_cast<const float*>(bias_.data());
    if (of.scales) e.row_scale = x_scales();
    e.col_scale = static_cast<const float*>(col_scale_.data());
    e.gate = gate_.data();
    e.residual = residual_.data();
    e.out = out_->ptr();
    if (out_scales_) e.out_scales = out_scales_->ptr();
    e.m = of.m;
    e.n = of.n;
    e.gate_rows = of.gate == Gate::sample ? of.m / samples() : 0;
    e.activation = of.activation;
    e.out_f32 = of.out_f32;
    return e;
  }

  double truth(int row, int col) const { return truth_[static_cast<size_t>(row) * of.n + col]; }
  float result(int row, int col) const {
    const size_t at = static_cast<size_t>(row) * of.n + col;
    if (of.out_f32) return reinterpret_cast<const float*>(out_->ptr())[at];
    if (of.out_fp8) return to_float(F8e4m3{out_->ptr()[at]}) * out_scale(row, col);
    return to_float(reinterpret_cast<const Bf16*>(out_->ptr())[at]);
  }
  /// The result's bytes.
  std::vector<uint8_t> bits() const { return {out_->ptr(), out_->ptr() + out_->size()}; }

  const float* x_scales() const { return static_cast<const float*>(x_scale_.data()); }
  void* out() const { return out_->ptr(); }
  void* residual() const { return residual_.data(); }

  /// All elements are within the result's rounding and a little for sums in f32.
  bool right(const std::string& what) const {
    const double relative = of.out_f32 ? 1e-5 : of.out_fp8 ? 0x1.02p-4 : 0x1p-8;
    sim::check::checks++;
    for (int row = 0; row < of.m; row++)
      for (int col = 0; col < of.n; col++) {
        const double wanted = truth(row, col), got = result(row, col);
        // fp8 has fewer bits for what is small beside the largest.
        const double least = of.out_fp8 ? out_scale(row, col) * 0x1.02p-10 + 5e-5 : 5e-5;
        if (std::abs(got - wanted) <= relative * std::abs(wanted) + least) continue;
        sim::check::fail("values", "%s: (%d, %d) is %g, not %g", what.c_str(), row, col, got, wanted);
        return false;
      }
    return true;
  }

  /// Root mean square error over that of the truth.
  double error() const {
    double squares = 0, of_truth = 0;
    for (int row = 0; row < of.m; row++)
      for (int col = 0; col < of.n; col++) {
        const double wanted = truth(row, col), distance = result(row, col) - wanted;
        squares += distance * distance;
        of_truth += wanted * wanted;
      }
    return std::sqrt(squares / of_truth);
  }

  const GemmCase of;
  Matrix x, w;

 private:
  int out_groups() const { return (of.n + 127) / 128; }
  float out_scale(int row, int col) const { return out_scales_->ptr()[row * out_groups() + col / 128]; }
  double compute(int row, int col) const {
    double sum = 0;
    for (int i = 0; i < of.k; i++) {
      const double product =
          x.values[static_cast<size_t>(row) * of.k + i] * w.values[static_cast<size_t>(col) * of.k + i];
      sum += of.groups ? product * x_scale_.values[row * of.scales_a_row() + i / 128] : product;
    }
    if (of.scales) sum *= x_scale_.values[row];
    if (of.scales || of.groups) sum *= col_scale_.values[col];
    if (of.bias) sum += bias_.values[col];
    double y = activate(of.activation, sum);
    const size_t at = static_cast<size_t>(row) * of.n + col;
    if (of.gate == Gate::sample)
      y *= gate_.values[static_cast<size_t>(row / (of.m / samples())) * of.n + col];
    if (of.gate == Gate::element) y *= gate_.values[at];
    return of.residual ? y + residual_.values[at] : y;
  }

  Matrix bias_, gate_, residual_, x_scale_, col_scale_;
  std::unique_ptr<sim::Global<uint8_t>> out_;
  std::unique_ptr<sim::Global<float>> out_scales_;
  std::vector<double> truth_;
};

/// Runs launch(problem, options) under all schedules and checks what it did.
template <class Launch>
bool holds(const GemmProblem& problem, const Launch& launch) {
  for (const sim::Options& options : schedules()) {
    const std::string what = std::string(problem.of.name) + " " + sim::check::name_of(options);
    if (!sound(launch(problem, options), what) || !problem.right(what)) return false;
  }
  return true;
}

}  // namespace fsv::test
