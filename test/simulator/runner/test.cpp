#include "cuda/kernels/sum.cuh"
#include "simulator/check.h"

int main() {
  constexpr unsigned kThreads = 64;
  std::vector<float> in(kThreads), want(kThreads);
  for (unsigned i = 0; i < kThreads; i++) in[i] = static_cast<float>(i);
  for (unsigned i = 0; i < kThreads; i++) want[i] = in[i] + in[(i + 1) % kThreads];
  for (const sim::Options& options : sim::check::schedules()) {
    sim::Global<float> from(in), to(kThreads);
    const auto report = sim::launch(1, kThreads, 1, 4 * kThreads, options,
                                    [&] { fsv::cuda::kernels::sum_of_neighbours(from.ptr(), to.ptr()); });
    sim::check::ok(report, "sum of neighbours");
    sim::check::near(to.ptr(), want.data(), kThreads, 0, "sum of neighbours");
  }
  return sim::check::finish("sum");
}
