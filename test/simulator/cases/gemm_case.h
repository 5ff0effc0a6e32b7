// A GEMM with everything that may follow it, computed in double: what the tests of the GEMM kernels compare
// with.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "cuda/kernels/gemm_epilogue.cuh"
#include "simulator/cases/harness.h"

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

/// A matrix as a kernel has it: f32, bf16 or fp8 in global memory, and its values.
class Matrix {
 public:
  Matrix();
  Matrix(std::mt19937& random, DType dtype, int rows, int cols, int stride, double spread);
  Matrix& operator=(Matrix&&) noexcept;
  ~Matrix();
  void* data() const;

  std::vector<double> values;
  std::unique_ptr<sim::Global<uint8_t>> memory;
};

/// A case with its operands, its epilogue for a kernel, and the truth.
class GemmProblem {
 public:
  GemmProblem(const GemmCase& c, DType dtype, int x_stride, int w_stride);
  ~GemmProblem();

  int samples() const { return of.gate == Gate::sample ? 2 : 1; }
  cuda::kernels::GemmEpilogue epilogue() const;

  double truth(int row, int col) const { return truth_[static_cast<size_t>(row) * of.n + col]; }
  float result(int row, int col) const;
  /// The result's bytes.
  std::vector<uint8_t> bits() const;

  const float* x_scales() const { return static_cast<const float*>(x_scale_.data()); }
  void* out() const;
  void* residual() const { return residual_.data(); }

  /// All elements are within the result's rounding and a little for sums in f32.
  bool right(const std::string& what) const;
  /// Root mean square error over that of the truth.
  double error() const;

  const GemmCase of;
  Matrix x, w;

 private:
  int out_groups() const { return (of.n + 127) / 128; }
  float out_scale(int row, int col) const;
  double compute(int row, int col) const;

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
