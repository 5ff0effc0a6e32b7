// gemm_f32.cuh: values against double at awkward shapes.
#include "cuda/kernels/gemm_f32.cuh"

#include "simulator/cases/gemm_case.h"

namespace {

using namespace fsv;
using namespace fsv::test;
using namespace fsv::cuda::kernels;

bool test(const GemmCase& c, int padding = 0) {
  const GemmProblem problem(c, DType::f32, c.k, c.k + padding);
  return holds(problem, [&](const GemmProblem& p, const sim::Options& options) {
    const FmaArgs args{static_cast<const float*>(p.x.data()), static_cast<const float*>(p.w.data()), c.k,
                       c.k + padding, p.epilogue()};
    const int blocks = (c.m + FmaTile::kM - 1) / FmaTile::kM * ((c.n + FmaTile::kN - 1) / FmaTile::kN);
    return sim::launch(static_cast<unsigned>(blocks), FmaTile::kThreads, 1, FmaTile::kShared, options,
                       [&] { gemm_f32(args); });
  });
}

bool all() {
  return test({"all of the epilogue", 70, 132, 50, true, Activation::gelu, Gate::sample, true, true}) &&
         test({"odd columns", 65, 67, 33, true, Activation::silu, Gate::element, true, true}, 3) &&
         test({"bf16 result", 5, 20, 16, true, Activation::gelu_tanh, Gate::none, true}) &&
         test({"one", 1, 1, 1, true, Activation::none, Gate::none, false, true}) &&
         test({"no depth", 3, 5, 0, true, Activation::relu, Gate::none, true, true});
}

}  // namespace

int main() {
  all();
  return sim::check::finish("gemm_f32");
}
