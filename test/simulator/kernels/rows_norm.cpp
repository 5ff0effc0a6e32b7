// The norms of rows: sums over teams of lanes and of warps, rows longer than registers, and the traffic of a
// row.
#include <algorithm>

#include "cuda/kernels/norm.cuh"
#include "simulator/cases/rows.h"

namespace {

using namespace fsv;
using namespace fsv::cuda;
using namespace rows;

double squares_of(const std::vector<double>& x, size_t first, size_t size, double mean) {
  double sum = 0;
  for (size_t c = 0; c < size; c++) sum += (x[first + c] - mean) * (x[first + c] - mean);
  return sum / static_cast<double>(size);
}

template <class X, class Y, int N>
void norm(int64_t samples, int64_t rows_a_sample, int64_t channels, bool rms, bool all) {
  const int64_t rows = samples * rows_a_sample;
  Global<X> x(random<X>(rows * channels, 2, 3)), residual(random<X>(rows * channels));
  Global<float> weight(random<float>(channels)), bias(random<float>(channels));
  Global<float> scale(random<float>(samples * channels)), shift(random<float>(samples * channels));
  const std::string what = "norm of " + std::to_string(rows) + " x " + std::to_string(channels);

  const std::vector<double> wide = exact(x), more = exact(residual);
  std::vector<double> want;
  for (int64_t row = 0; row < rows; row++) {
    double mean = 0;
    for (int64_t c = 0; c < channels; c++) mean += wide[row * channels + c] / static_cast<double>(channels);
    if (rms) mean = 0;
    const double factor = 1 / std::sqrt(squares_of(wide, row * channels, channels, mean) + 1e-6);
    for (int64_t c = 0; c < channels; c++) {
      const double v = (wide[row * channels + c] - mean) * factor;
      const int64_t at = row / rows_a_sample * channels + c;
      want.push_back(
          all ? (v * weight[c] + bias[c]) * (1.0 + scale[at]) + shift[at] + more[row * channels + c] : v);
    }
  }
  TeamPlan plan =
      plan_teams(rows, channels / N, kernels::kNormHeld<N>, kernels::kRowThreads, kLeastTeam<Y, N>);
  plan.shape.smem = kernels::kRowShared;
  constexpr bool kFp8 = std::is_same_v<Y, F8e4m3>;
  const int64_t groups = kFp8 ? rows * ((channels + kScaleGroup - 1) / kScaleGroup) : 0;
  // As few blocks as make each do several rows: the sums of one row must not meet those of the next.
  plan.shape.grid.x = std::min(plan.shape.grid.x, 2u);
  for (const sim::Options& options : sim::check::schedules()) {
    Global<Y> out(rows * channels);
    Global<float> scales(static_cast<size_t>(groups));
    const kernels::NormTask task = {.x = x.ptr(),
                                    .out = out.ptr(),
                                    .out_scales = scales.ptr(),
                                    .residual = all ? residual.ptr() : nullptr,
                                    .weight = all ? weight.ptr() : nullptr,
                                    .bias = all ? bias.ptr() : nullptr,
                                    .scale = all ? scale.ptr() : nullptr,
                                    .shift = all ? shift.ptr() : nullptr,
                                    .rows = rows,
                                    .rows_a_sample = rows_a_sample,
                                    .channels = channels,
                                    .team = plan.team,
                                    .activation = Activation::none,
                                    .rms = rms,
                                    .eps = 1e-6f};
    const std::string with = what + ", " + sim::check::name_of(options);
    if (sim::check::ok(launch(kernels::norm_rows<X, Y, N>, plan.shape, options, task), what)) {
      if constexpr (kFp8)
        near_fp8(out, scales, want, channels, with);
      else
        sim::check::near(exact(out), want, want.size(), kTolerance<Y>, with);
    }
    if (all || options.schedule != sim::Schedule::order) continue;
    cheap(launch(kernels::norm_rows<X, Y, N>, plan.shape, counting(), task),
          rows * channels * static_cast<int64_t>(sizeof(X) + sizeof(Y)) + 4 * groups, what);
  }
}

template <class T, int N>
void rope(int64_t tokens, int64_t heads, int64_t size, bool whole_heads_apart) {
  const int64_t samples = 2, rows = samples * tokens, channels = heads * size;
  Global<T> x(random<T>(rows * channels));
  Global<float> weight(random<float>(channels)), rotations(random<float>(tokens * size));
  const std::vector<double> wide = exact(x);
  std::vector<double> want(wide.size());
  for (int64_t row = 0; row < rows; row++) {
    const double factor = 1 / std::sqrt(squares_of(wide, row * channels, channels, 0) + 1e-6);
    for (int64_t c = 0; c < channels; c += 2) {
      const double a = wide[row * channels + c] * factor * weight[c];
      const double b = wide[row * channels + c + 1] * factor * weight[c + 1];
      const int64_t at = row % tokens * size + c % size;
      want[row * channels + c] = a * rotations[at] - b * rotations[at + 1];
      want[row * channels + c + 1] = a * rotations[at + 1] + b * rotations[at];
    }
  }
  TeamPlan plan = plan_teams(rows, channels / N, kernels::kNormHeld<N>, kernels::kRowThreads);
  plan.shape.smem = kernels::kRowShared;
  for (const sim::Options& options : sim::check::schedules()) {
    Global<T> out(rows * channels);
    const kernels::RopeTask task = {.x = x.ptr(),
                                    .out = out.ptr(),
                                    .weight = weight.ptr(),
                                    .rotations = rotations.ptr(),
                                    .rows = rows,
                                    .tokens = tokens,
                                    .channels = channels,
                                    .head_dim = kernels::Divisor(size),
                                    .team = plan.team,
                                    .eps = 1e-6f};
    if (sim::check::ok(launch(kernels::norm_rope<T, N>, plan.shape, options, task), "rope"))
      sim::check::near(exact(out), want, want.size(), 2 * kTolerance<T>,
                       "rope, " + sim::check::name_of(options));
    if (!whole_heads_apart || options.schedule != sim::Schedule::order) continue;
    // x, the result and the weight; and a thread asks once for how it turns its packs.
    const int64_t bytes = rows * (channels * (2 * static_cast<int64_t>(sizeof(T)) + 4) + plan.team * N * 4);
    const sim::Report moved = launch(kernels::norm_rope<T, N>, plan.shape, counting(), task);
    sim::check::equal(static_cast<long long>(sum_of(moved.global).bytes), bytes, "rope: bytes");
  }
}

void divisors() {
  constexpr int64_t kMost = INT32_MAX;
  for (const int64_t by : {1l, 2l, 3l, 7l, 64l, 128l, 641l, 65537l, (1l << 30) + 1, kMost}) {
    const kernels::Divisor divisor(by);
    for (const int64_t n : {int64_t{0}, by - 1, by, by + 1, 3 * by - 1, 3 * by, kMost / by * by - 1, kMost})
      if (n >= 0 && n <= kMost)
        sim::check::equal(divisor.quotient(static_cast<uint32_t>(n)), n / by,
                          std::to_string(n) + " / " + std::to_string(by));
  }
}

}  // namespace

int main() {
  norm<Bf16, Bf16, 8>(2, 3, 5120, false, true);  // five warps a row
  norm<Bf16, Bf16, 8>(1, 6, 5120, false, false);
  norm<Bf16, Bf16, 8>(2, 37, 136, true, true);  // eight lanes a row, the last without a pack
  norm<Bf16, Bf16, 8>(1, 100, 128, true, false);
  norm<float, Bf16, 4>(1, 70, 24, false, true);
  norm<float, float, 1>(1, 2, 4321, false, true);  // longer than registers
  norm<Bf16, float, 1>(3, 5, 3, false, true);
  norm<Bf16, F8e4m3, 8>(2, 3, 5120, false, true);
  norm<Bf16, F8e4m3, 8>(1, 9, 5120, true, false);
  norm<Bf16, F8e4m3, 8>(2, 7, 136, false, true);    // a group of one pack
  norm<Bf16, F8e4m3, 8>(1, 5, 8, false, true);      // lanes without a pack
  norm<Bf16, F8e4m3, 8>(1, 2, 11016, false, true);  // longer than registers
  rope<Bf16, 8>(3, 40, 128, true);
  rope<float, 2>(2, 3, 22, false);
  divisors();
  return sim::check::finish("rows_norm");
}
