// Scheduling of the ops on elements: ranges of elements, or of rows where a vector lies along the last axis.
#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

int64_t row_bytes(const TensorView& x) { return x.shape[-1] * static_cast<int64_t>(size_of(x.dtype)); }
int64_t row_count(const TensorView& x) { return x.shape.elements(0, x.shape.rank - 1); }

}  // namespace

void CpuBackend::combine(const CombineArgs& args) {
  CombineTask task = {};
  for (int i = 0; i < args.count; i++) {
    task.terms[i] = args.terms[i].data;
    task.dtypes[i] = args.terms[i].dtype;
  }
  task.coefficients = args.factors ? args.factors.as<float>() : args.coefficients;
  task.count = args.count;
  task.out = args.out.data;
  task.out_dtype = args.out.dtype;
  pool_.parallel_for(args.out.elements(), kElementsARange,
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->combine(task, begin, end); });
}

void CpuBackend::cast(const CastArgs& args) {
  const CastTask task = {.x = args.x.data, .out = args.out.data, .from = args.x.dtype, .to = args.out.dtype};
  pool_.parallel_for(args.out.elements(), kElementsARange,
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->cast(task, begin, end); });
}

void CpuBackend::activate(const ActivateArgs& args) {
  const ActivateTask task = {
      .x = args.x.data, .out = args.out.data, .dtype = args.x.dtype, .activation = args.activation};
  pool_.parallel_for(args.out.elements(), kElementsARange,
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->activate(task, begin, end); });
}

void CpuBackend::glu(const GluArgs& args) {
  if (args.out.elements() == 0) return;
  const GluTask task = {
      .x = args.x.data, .out = args.out.data, .dtype = args.x.dtype, .channels = args.out.shape[-1]};
  pool_.parallel_for(row_count(args.x), rows_a_range(row_bytes(args.x)),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->glu(task, begin, end); });
}

void CpuBackend::affine(const AffineArgs& args) {
  if (args.x.elements() == 0) return;
  const int64_t rows = row_count(args.x);
  const AffineTask task = {.x = args.x.data,
                           .out = args.out.data,
                           .residual = nullptr,
                           .mean = nullptr,
                           .scale = args.scale.as<float>(),
                           .shift = args.shift.as<float>(),
                           .rows_a_sample = rows,
                           .channels = args.x.shape[-1],
                           .x_dtype = args.x.dtype,
                           .out_dtype = args.out.dtype,
                           .activation = Activation::none};
  pool_.parallel_for(rows, rows_a_range(row_bytes(args.x)),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->affine(task, begin, end); });
}

void CpuBackend::modulation(const ModulationArgs& args) {
  const int64_t vectors = args.table.shape[0], channels = args.table.shape[1],
                samples = args.embedding.shape[0];
  for (int64_t k = 0; k < vectors; k++) {
    const float* table = args.table.as<float>() + k * channels;
    for (int64_t b = 0; b < samples; b++) {
      const float* embedding = args.embedding.as<float>() + (b * vectors + k) * channels;
      float* out = args.out.as<float>() + (k * samples + b) * channels;
      for (int64_t c = 0; c < channels; c++) out[c] = table[c] + embedding[c];
    }
  }
}

void CpuBackend::from_rgb8(const FromRgb8Args& args) {
  const Rgb8Task task = {.x = args.x.data, .out = args.out.data, .dtype = args.out.dtype};
  pool_.parallel_for(args.out.elements(), kElementsARange,
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->from_rgb8(task, begin, end); });
}

void CpuBackend::to_rgb8(const ToRgb8Args& args) {
  const Rgb8Task task = {.x = args.x.data, .out = args.out.data, .dtype = args.x.dtype};
  pool_.parallel_for(args.out.elements(), kElementsARange,
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->to_rgb8(task, begin, end); });
}

void CpuBackend::all_finite(const AllFiniteArgs& args) {
  const AllFiniteTask task = {.x = args.x.data, .dtype = args.x.dtype, .finite = args.out.as<int32_t>()};
  *task.finite = 1;
  pool_.parallel_for(args.x.elements(), kElementsARange,
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->all_finite(task, begin, end); });
}

}  // namespace fsv::cpu
