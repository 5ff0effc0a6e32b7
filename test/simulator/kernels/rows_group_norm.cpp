// Statistics of group_norm: several groups a tile, groups of several tiles, pieces of several turns.
#include "cuda/kernels/affine.cuh"
#include "cuda/kernels/group_norm.cuh"
#include "cuda/launch/group_norm_plan.h"
#include "simulator/cases/rows.h"

namespace {

using namespace fsv;
using namespace fsv::cuda;
using namespace rows;

/// `turns` of the registers a piece has, to see statistics merged inside a block; `banks` bounds the
/// wavefronts.
template <class T, int N>
void statistics(int64_t samples, int64_t rows, int64_t channels, int64_t groups, int64_t turns,
                double banks = 2) {
  const std::string what = "group_norm of " + std::to_string(rows) + " x " + std::to_string(channels) +
                           " in " + std::to_string(groups);
  Global<T> x(random<T>(samples * rows * channels, 1, 5));
  Global<float> weight(random<float>(channels));
  StatsPlan plan = plan_stats(TensorView({dtype_of<T>(), {samples, rows, channels}}, x.ptr()), groups);
  sim::check::equal(plan.pack, N, what + ": pack");
  plan.task.rows_a_piece *= turns;
  plan.task.pieces = (rows + plan.task.rows_a_piece - 1) / plan.task.rows_a_piece;

  const int64_t width = channels / groups;
  const std::vector<double> wide = exact(x);
  std::vector<double> want_mean(static_cast<size_t>(samples * channels)), want_scale = want_mean;
  for (int64_t b = 0; b < samples; b++)
    for (int64_t g = 0; g < groups; g++) {
      const auto sum = [&](const auto& value) {
        double total = 0;
        for (int64_t r = 0; r < rows; r++)
          for (int64_t c = g * width; c < (g + 1) * width; c++)
            total += value(wide[(b * rows + r) * channels + c]);
        return total / static_cast<double>(rows * width);
      };
      const double mean = sum([](double v) { return v; });
      const double factor = 1 / std::sqrt(sum([&](double v) { return (v - mean) * (v - mean); }) + 1e-5);
      for (int64_t c = g * width; c < (g + 1) * width; c++)
        want_mean[b * channels + c] = mean, want_scale[b * channels + c] = factor * weight[c];
    }

  const auto shape = stats_shape(plan);
  for (const sim::Options& options : sim::check::schedules()) {
    Global<kernels::Spread> stats(samples * plan.task.pieces * groups * plan.task.parts);
    Global<float> mean(samples * channels), scale(samples * channels);
    plan.task.x = x.ptr(), plan.task.stats = stats.ptr();
    if (!sim::check::ok(launch(kernels::group_stats<T, N>, shape, options, plan.task), what)) continue;
    const kernels::GroupMergeTask merge = {.stats = plan.task,
                                           .weight = weight.ptr(),
                                           .mean = mean.ptr(),
                                           .scale = scale.ptr(),
                                           .samples = samples,
                                           .eps = 1e-5f};
    const GridPlan merger = {
        .grid = static_cast<unsigned>(samples * groups / (kernels::kStatsThreads / 32) + 1),
        .block = kernels::kStatsThreads};
    if (!sim::check::ok(launch(kernels::group_merge, merger, options, merge), what)) continue;
    sim::check::near(exact(mean), want_mean, want_mean.size(), 0x1p-20, what + ": mean");
    sim::check::near(exact(scale), want_scale, want_scale.size(), 0x1p-19, what + ": scale");
    if (N > 1 && options.schedule == sim::Schedule::order) {
      const sim::Report report = launch(kernels::group_stats<T, N>, shape, counting(), plan.task);
      sim::check::equal(static_cast<long long>(report.global_read),
                        samples * rows * channels * static_cast<int64_t>(sizeof(T)), what + ": bytes read");
      on_all_banks(report, banks, what);
    }
  }
}

/// What is left to do after the statistics, in the grid for `rows` of a real size, of which two blocks run: a
/// thread asks for its part of the vectors once for all of its rows.
void vectors_serve_many_rows(int64_t rows, int64_t channels, int64_t rows_of_a_thread) {
  constexpr int N = kernels::kPack<Bf16>;
  const std::string what = "affine of " + std::to_string(rows) + " x " + std::to_string(channels);
  GridPlan plan = plan_sheet(rows, channels / N);
  const int64_t few = 2 * plan.block.y * rows_of_a_thread, size = few * channels;
  sim::check::equal(plan.grid.x, (rows + few / 2 - 1) / (few / 2), what + ": blocks");
  plan.grid.x = 2;
  Global<Bf16> x(random<Bf16>(size, 1, 5)), out(size);
  Global<float> mean(random<float>(channels)), scale(random<float>(channels)), shift(random<float>(channels));
  const kernels::AffineTask task = {.x = x.ptr(),
                                    .out = out.ptr(),
                                    .residual = nullptr,
                                    .mean = mean.ptr(),
                                    .scale = scale.ptr(),
                                    .shift = shift.ptr(),
                                    .samples = 1,
                                    .rows_a_sample = few,
                                    .channels = channels,
                                    .activation = Activation::none};
  const sim::Report report = launch(kernels::affine<Bf16, Bf16, N>, plan, counting(), task);
  if (!sim::check::ok(report, what)) return;
  std::vector<double> want = exact(x);
  for (int64_t i = 0; i < size; i++)
    want[i] = (want[i] - mean[i % channels]) * scale[i % channels] + shift[i % channels];
  sim::check::near(exact(out), want, want.size(), 2 * kTolerance<Bf16>, what);
  const int64_t vectors = 3 * 4 * channels * 2 * plan.block.y;
  sim::check::equal(static_cast<long long>(sum_of(report.global).bytes),
                    static_cast<long long>(2 * 2 * size + vectors), what + ": bytes");
}

}  // namespace

int main() {
  vectors_serve_many_rows(7440, 5120, 5);
  vectors_serve_many_rows(4 * 192 * 320, 640, 8);
  statistics<Bf16, 8>(2, 300, 128, 32, 1, 1.05);  // four channels a group: packs of two
  statistics<Bf16, 8>(1, 600, 32, 32, 1, 1.05);   // every channel a group
  statistics<Bf16, 8>(1, 70, 640, 32, 1, 1.25);   // groups that share packs
  statistics<Bf16, 8>(1, 70, 96, 16, 1);          // six channels a group: some of them in two packs
  statistics<Bf16, 8>(1, 70, 96, 4, 2);           // lanes left over, two turns
  statistics<float, 4>(1, 90, 1040, 1, 3);        // a group of three tiles
  statistics<float, 4>(2, 33, 600, 50, 1);        // two tiles, the last one shorter
  statistics<float, 1>(1, 41, 515, 5, 2);         // three tiles of two groups, by elements
  return sim::check::finish("rows_group_norm");
}
