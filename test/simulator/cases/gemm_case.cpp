#include "simulator/cases/gemm_case.h"

#include <cmath>
#include <cstring>

namespace fsv::test {
namespace {

template <class T>
float store(std::vector<uint8_t>& bytes, size_t at, T value) {
  std::memcpy(&bytes[at * sizeof(T)], &value, sizeof(T));
  return to_float(value);
}

float put(DType dtype, std::vector<uint8_t>& bytes, size_t at, float value) {
  if (dtype == DType::f32) return store(bytes, at, value);
  if (dtype == DType::bf16) return store(bytes, at, to_bf16(value));
  return store(bytes, at, to_f8e4m3(value));
}

}  // namespace

Matrix::Matrix() = default;
Matrix& Matrix::operator=(Matrix&&) noexcept = default;
Matrix::~Matrix() = default;

Matrix::Matrix(std::mt19937& random, DType dtype, int rows, int cols, int stride, double spread) {
  std::normal_distribution<double> normal(0, spread);
  std::vector<uint8_t> bytes(static_cast<size_t>(rows) * stride * size_of(dtype));
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < stride; c++) {
      const float drawn = c < cols ? static_cast<float>(normal(random)) : 0.0f;
      const float value = put(dtype, bytes, static_cast<size_t>(r) * stride + c, drawn);
      if (c < cols) values.push_back(value);
    }
  memory = std::make_unique<sim::Global<uint8_t>>(bytes);
}

void* Matrix::data() const { return memory ? memory->ptr() : nullptr; }

GemmProblem::GemmProblem(const GemmCase& c, DType dtype, int x_stride, int w_stride) : of(c) {
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
  if (c.out_fp8) out_scales_ = std::make_unique<sim::Global<float>>(static_cast<size_t>(c.m) * out_groups());
  for (int row = 0; row < c.m; row++)
    for (int col = 0; col < c.n; col++) truth_.push_back(compute(row, col));
}

GemmProblem::~GemmProblem() = default;

cuda::kernels::GemmEpilogue GemmProblem::epilogue() const {
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

float GemmProblem::result(int row, int col) const {
  const size_t at = static_cast<size_t>(row) * of.n + col;
  if (of.out_f32) return reinterpret_cast<const float*>(out_->ptr())[at];
  if (of.out_fp8) return to_float(F8e4m3{out_->ptr()[at]}) * out_scale(row, col);
  return to_float(reinterpret_cast<const Bf16*>(out_->ptr())[at]);
}

std::vector<uint8_t> GemmProblem::bits() const { return {out_->ptr(), out_->ptr() + out_->size()}; }

void* GemmProblem::out() const { return out_->ptr(); }

bool GemmProblem::right(const std::string& what) const {
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

double GemmProblem::error() const {
  double squares = 0, of_truth = 0;
  for (int row = 0; row < of.m; row++)
    for (int col = 0; col < of.n; col++) {
      const double wanted = truth(row, col), distance = result(row, col) - wanted;
      squares += distance * distance;
      of_truth += wanted * wanted;
    }
  return std::sqrt(squares / of_truth);
}

float GemmProblem::out_scale(int row, int col) const {
  return out_scales_->ptr()[row * out_groups() + col / 128];
}

double GemmProblem::compute(int row, int col) const {
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
  if (of.gate == Gate::sample) y *= gate_.values[static_cast<size_t>(row / (of.m / samples())) * of.n + col];
  if (of.gate == Gate::element) y *= gate_.values[at];
  return of.residual ? y + residual_.values[at] : y;
}

}  // namespace fsv::test
