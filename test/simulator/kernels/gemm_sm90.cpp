// gemm_sm90.cuh: values against double at awkward shapes, under several schedules.
#include "cuda/kernels/gemm_sm90.cuh"

#include "gemm_check.h"

namespace {

using namespace gemm_check;
using namespace fsv::cuda::kernels;
using fsv::DType;

struct Plan {
  int blocks = 2, cluster = 1, group = 2;
};

template <class Tile>
sim::Report launch(const Problem& p, const Plan& plan, const sim::Options& options) {
  const int element = Tile::kOperand == Operand::bf16 ? 2 : 1;
  const auto tiled = [](void* data, int element, int64_t rows, int64_t cols, std::vector<int> box,
                        int swizzle) {
    return sim::encode_tiled(data, element, {cols, rows}, {cols * element}, box, swizzle);
  };
  const Case& c = p.of;
  GemmArgs args;
  args.m = c.m;
  args.n = c.n;
  args.k = c.k;
  const int tiles_m = (c.m + Tile::kM * plan.cluster - 1) / (Tile::kM * plan.cluster);
  args.order = {tiles_m, (c.n + Tile::kN - 1) / Tile::kN, plan.group};
  args.cluster = plan.cluster;
  args.by_tma = !c.out_f32 && c.n % 8 == 0;
  args.epilogue = p.epilogue();
  const auto x = tiled(p.x.data(), element, c.m, c.k, {Tile::kK, Tile::kM}, fsv::ptx::SW_128);
  const auto w = tiled(p.w.data(), element, c.n, c.k, {Tile::kK, Tile::kN / plan.cluster}, fsv::ptx::SW_128);
  fsv::ptx::TensorMap residual{}, out{};
  if (args.by_tma) {
    out = tiled(p.out(), 2, c.m, c.n, {Tile::kPanel, 64}, Tile::kPanelSwizzle);
    if (c.residual) residual = tiled(p.residual(), 2, c.m, c.n, {Tile::kPanel, 64}, Tile::kPanelSwizzle);
  }
  return sim::launch(dim3(plan.blocks), dim3(Tile::kThreads), dim3(plan.cluster), Tile::kShared, options,
                     [&] { gemm_sm90<Tile>(x, w, residual, out, args); });
}

template <Operand kOperand, int kCols>
bool test(const Case& c, const Plan& plan = {}) {
  const DType dtype = kOperand == Operand::bf16 ? DType::bf16 : DType::f8e4m3;
  const Problem problem(c, dtype, c.k, c.k);
  return holds(problem, [&](const Problem& p, const sim::Options& options) {
    return launch<GemmTile<kOperand, kCols>>(p, plan, options);
  });
}

bool all() {
  constexpr Operand bf16 = Operand::bf16, e4m3 = Operand::e4m3;
  constexpr Activation gelu = Activation::gelu, silu = Activation::silu;
  return test<bf16, 64>({"plain", 200, 136, 328}) &&
         test<bf16, 128>({"all of the epilogue", 290, 184, 200, true, gelu, Gate::sample, true}) &&
         test<bf16, 64>({"gate an element", 130, 72, 72, true, silu, Gate::element, true}) &&
         test<bf16, 160>({"odd width", 129, 328, 136, true, Activation::gelu_tanh, Gate::none, true},
                         {3, 1, 1}) &&
         test<bf16, 256>({"wide", 140, 264, 264, true}, {1, 1, 1}) &&
         test<bf16, 64>({"ragged columns", 150, 75, 136, true, Activation::relu, Gate::sample, true}) &&
         test<bf16, 64>({"f32", 70, 136, 64, true, gelu, Gate::element, true, true}) &&
         test<bf16, 64>({"one row", 1, 8, 8, true, Activation::none, Gate::none, true}) &&
         test<e4m3, 64>({"fp8", 140, 136, 400, true, gelu, Gate::none, true, false, true}) &&
         test<bf16, 64>({"cluster", 300, 136, 648, true, Activation::none, Gate::none, true}, {4, 2, 2});
}

}  // namespace

int main() { return all() ? 0 : 1; }
