// Scheduling of the norms: ranges of rows; group_norm first gathers its statistics.
#include "cpu/norm.h"

#include <algorithm>
#include <cmath>

#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

int64_t row_bytes(const TensorView& x) { return x.shape[-1] * static_cast<int64_t>(size_of(x.dtype)); }
int64_t row_count(const TensorView& x) { return x.shape.elements(0, x.shape.rank - 1); }

/// Mean and sum of squared deviations of `count` numbers; two of them merge as in Chan, Golub and LeVeque.
struct Spread {
  double count = 0, mean = 0, squares = 0;

  void merge(double other_count, double other_mean, double other_squares) {
    const double total = count + other_count, distance = other_mean - mean;
    mean += distance * other_count / total;
    squares += other_squares + distance * distance * count * other_count / total;
    count = total;
  }
};

}  // namespace

void CpuBackend::norm_modulate(const NormModulateArgs& args) {
  if (args.x.elements() == 0) return;
  if (args.dtype == DType::f8e4m3) return then_quantize(&CpuBackend::norm_modulate, args);
  const NormTask task = {.x = args.x.data,
                         .out = args.out.data,
                         .residual = nullptr,
                         .weight = args.weight.as<float>(),
                         .bias = args.bias.as<float>(),
                         .scale = args.scale.as<float>(),
                         .shift = args.shift.as<float>(),
                         .rows_a_sample = args.x.shape.elements(1, args.x.shape.rank - 1),
                         .channels = args.x.shape[-1],
                         .x_dtype = args.x.dtype,
                         .out_dtype = args.out.dtype,
                         .activation = Activation::none,
                         .rms = args.rms,
                         .eps = args.eps};
  pool_.parallel_for(row_count(args.x), rows_a_range(row_bytes(args.x)),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->norm(task, begin, end); });
}

NormTask norm_task(const PixelNormArgs& args) {
  return {.x = args.x.data,
          .out = args.out.data,
          .residual = args.residual.data,
          .weight = args.weight.as<float>(),
          .bias = args.bias.as<float>(),
          .scale = nullptr,
          .shift = nullptr,
          .rows_a_sample = 1,
          .channels = args.x.shape[-1],
          .x_dtype = args.x.dtype,
          .out_dtype = args.out.dtype,
          .activation = args.activation,
          .rms = true,
          .eps = args.eps};
}

void CpuBackend::pixel_norm(const PixelNormArgs& args) {
  if (args.x.elements() == 0) return;
  const NormTask task = norm_task(args);
  pool_.parallel_for(row_count(args.x), rows_a_range(row_bytes(args.x)),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->norm(task, begin, end); });
}

void CpuBackend::qk_norm_rope(const QkNormRopeArgs& args) {
  if (args.x.elements() == 0) return;
  const RopeTask task = {.x = args.x.data,
                         .out = args.out.data,
                         .dtype = args.x.dtype,
                         .weight = args.weight.as<float>(),
                         .rotations = args.rotations.as<float>(),
                         .tokens = args.x.shape[1],
                         .heads = args.heads,
                         .head_dim = args.x.shape[2] / args.heads,
                         .eps = args.eps};
  pool_.parallel_for(row_count(args.x), rows_a_range(row_bytes(args.x)),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->qk_norm_rope(task, begin, end); });
}

// A sample is cut into pieces by its shape alone, never by the number of threads, and pieces are merged in
// their order.
void CpuBackend::group_norm(const GroupNormArgs& args) {
  if (args.x.elements() == 0) return;
  const Shape& shape = args.x.shape;
  const int64_t samples = shape[0], channels = shape[-1], groups = args.groups, width = channels / groups;
  const int64_t rows = shape.elements(1, shape.rank - 1);
  const int64_t rows_a_piece = std::clamp<int64_t>((16 << 10) / channels, 1, 256);
  const int64_t pieces = (rows + rows_a_piece - 1) / rows_a_piece;

  const int64_t stats_size = samples * pieces * groups * 2, vector_size = samples * channels;
  const int64_t floats = 2 * vector_size + 2 * channels * pool_.size();
  char* buffer = static_cast<char*>(pool_.scratch(
      0, static_cast<size_t>(stats_size) * sizeof(double) + static_cast<size_t>(floats) * sizeof(float)));
  double* stats = reinterpret_cast<double*>(buffer);
  float* mean = reinterpret_cast<float*>(stats + stats_size);
  float* scale = mean + vector_size;
  float* sums = scale + vector_size;

  const GroupStatsTask gather = {.x = args.x.data,
                                 .dtype = args.x.dtype,
                                 .rows_a_sample = rows,
                                 .rows_a_piece = rows_a_piece,
                                 .pieces_a_sample = pieces,
                                 .channels = channels,
                                 .groups = groups,
                                 .stats = stats,
                                 .sums = nullptr};
  pool_.parallel_for(samples * pieces, 1, [&](int64_t begin, int64_t end, int worker) {
    GroupStatsTask mine = gather;
    mine.sums = sums + 2 * channels * worker;
    kernels_.rows->group_stats(mine, begin, end);
  });

  const float* weight = args.weight.as<float>();
  for (int64_t b = 0; b < samples; b++) {
    for (int64_t g = 0; g < groups; g++) {
      Spread spread;
      for (int64_t piece = 0; piece < pieces; piece++) {
        const double* s = stats + ((b * pieces + piece) * groups + g) * 2;
        const int64_t left = rows - piece * rows_a_piece;
        spread.merge(static_cast<double>(std::min(left, rows_a_piece) * width), s[0], s[1]);
      }
      const double factor = 1 / std::sqrt(spread.squares / spread.count + static_cast<double>(args.eps));
      for (int64_t c = g * width; c < (g + 1) * width; c++) {
        mean[b * channels + c] = static_cast<float>(spread.mean);
        scale[b * channels + c] =
            static_cast<float>(weight ? factor * static_cast<double>(weight[c]) : factor);
      }
    }
  }

  const AffineTask apply = {.x = args.x.data,
                            .out = args.out.data,
                            .residual = args.residual.data,
                            .mean = mean,
                            .scale = scale,
                            .shift = args.bias.as<float>(),
                            .rows_a_sample = rows,
                            .channels = channels,
                            .x_dtype = args.x.dtype,
                            .out_dtype = args.out.dtype,
                            .activation = args.activation};
  pool_.parallel_for(row_count(args.x), rows_a_range(row_bytes(args.x)),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->affine(apply, begin, end); });
}

}  // namespace fsv::cpu
