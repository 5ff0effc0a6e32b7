// gemm_sm90.cuh: values against double at awkward shapes, under several schedules; the same bits whatever the
// tile and the way out; what a GPU would have to move.
#include "cuda/kernels/gemm_sm90.cuh"

#include "simulator/kernels/gemm_case.h"

namespace {

using namespace fsv;
using namespace fsv::test;
using namespace fsv::cuda::kernels;

struct Plan {
  unsigned blocks = 2, cluster = 1;
  int group = 2;
  bool by_tma = true;
};

template <class Tile>
sim::Report launch(const GemmProblem& p, const Plan& plan, const sim::Options& options) {
  const int element = Tile::kOperand == Operand::bf16 ? 2 : 1, cluster = static_cast<int>(plan.cluster);
  const auto map = [](void* data, int element, int64_t rows, int64_t cols, std::vector<int> box,
                      int swizzle) {
    return sim::encode_tiled(data, element, {cols, rows}, {cols * element}, box, swizzle);
  };
  const GemmCase& c = p.of;
  GemmArgs args;
  args.m = c.m;
  args.n = c.n;
  args.k = c.k;
  args.order = {(c.m + Tile::kM * cluster - 1) / (Tile::kM * cluster), (c.n + Tile::kN - 1) / Tile::kN,
                plan.group};
  args.cluster = cluster;
  args.by_tma = plan.by_tma && !c.out_f32 && c.n % (c.out_fp8 ? 16 : 8) == 0;
  if (c.groups) {
    args.x_scales = p.x_scales();
    args.groups = c.scales_a_row();
  }
  args.epilogue = p.epilogue();
  const auto x = map(p.x.data(), element, c.m, c.k, {Tile::kK, Tile::kM}, ptx::SW_128);
  const auto w = map(p.w.data(), element, c.n, c.k, {Tile::kK, Tile::kN / cluster}, ptx::SW_128);
  ptx::TensorMap residual{}, out{};
  if (c.out_fp8) {
    out = map(p.out(), 1, c.m, c.n, {128, 64}, ptx::SW_128);
  } else if (args.by_tma) {
    out = map(p.out(), 2, c.m, c.n, {Tile::kPanel, 64}, Tile::kPanelSwizzle);
    if (c.residual) residual = map(p.residual(), 2, c.m, c.n, {Tile::kPanel, 64}, Tile::kPanelSwizzle);
  }
  return sim::launch(plan.blocks, Tile::kThreads, plan.cluster, Tile::kShared, options,
                     [&] { gemm_sm90<Tile>(x, w, residual, out, args); });
}

template <Operand kOperand, int kCols>
bool test(const GemmCase& c, const Plan& plan = {}) {
  const GemmProblem problem(c, kOperand == Operand::bf16 ? DType::bf16 : DType::f8e4m3, c.k, c.k);
  return holds(problem, [&](const GemmProblem& p, const sim::Options& options) {
    return launch<GemmTile<kOperand, kCols>>(p, plan, options);
  });
}

using Bf16x64 = GemmTile<Operand::bf16, 64>;
using Bf16x128 = GemmTile<Operand::bf16, 128>;
using Bf16x160 = GemmTile<Operand::bf16, 160>;

bool same_bits_from_every_plan() {
  const GemmCase c = {"plans", 256, 256, 192, true, Activation::gelu, Gate::sample, true};
  const GemmProblem p(c, DType::bf16, c.k, c.k);
  launch<Bf16x128>(p, {}, {});
  const auto bits = p.bits();
  const auto same = [&](const char* what, const sim::Report& report) {
    return sound(report, what) && same_bits(p.bits(), bits, what);
  };
  return same("another width", launch<Bf16x64>(p, {}, {})) &&
         same("other panels", launch<Bf16x160>(p, {}, {})) &&
         same("clusters", launch<Bf16x128>(p, {4, 2, 1}, {})) &&
         same("another way out", launch<Bf16x128>(p, {2, 1, 2, false}, {}));
}

/// Each column of tiles reads x, each row of them W, a cluster W once.
bool moves_what_it_must() {
  const GemmCase c = {"traffic", 256, 256, 192, false, Activation::silu, Gate::none, true};
  const GemmProblem p(c, DType::bf16, c.k, c.k);
  constexpr int64_t kOperand = 256 * 192 * 2, kResult = 256 * 256 * 2;
  const auto moved = [&](const std::string& what, const Plan& plan, int64_t of_w) {
    const sim::Report report = launch<Bf16x128>(p, plan, {});
    return sim::check::equal(static_cast<int64_t>(report.global_read), 2 * kOperand + of_w + kResult,
                             what + ": bytes read") &&
           sim::check::equal(static_cast<int64_t>(report.global_written), kResult, what + ": bytes written");
  };
  return moved("traffic", {2, 1, 2}, 2 * kOperand) && moved("traffic of clusters", {4, 2, 1}, kOperand) &&
         moved("traffic by chunks", {2, 1, 2, false}, 2 * kOperand);
}

/// A result of fp8 costs a byte an element and a scale for 128 of them, and no second pass.
bool writes_fp8_once() {
  const GemmCase c = {
      .name = "traffic of fp8", .m = 256, .n = 256, .k = 256, .groups = true, .out_fp8 = true};
  const GemmProblem p(c, DType::f8e4m3, c.k, c.k);
  const sim::Report report = launch<GemmTile<Operand::e4m3, 128>>(p, {4, 1, 2}, {});
  return sim::check::equal(static_cast<int64_t>(report.global_written), 256 * 256 + 256 * 2 * 4,
                           "traffic of fp8: bytes written");
}

/// Tensor cores keep 14 bits or so of a sum of fp8 products. Without promotion this error is 1.2e-3.
bool fp8_sums_are_promoted() {
  sim::Options options;
  options.fp8_bits = 14;
  options.check = false;
  const GemmCase c = {"promotion", 64, 64, 4096, false, Activation::none, Gate::none, false, true};
  const GemmProblem p(c, DType::f8e4m3, c.k, c.k);
  launch<GemmTile<Operand::e4m3, 64>>(p, {1, 1, 1}, options);
  if (p.error() < 2e-4) return true;
  sim::check::fail("values", "promotion: an error of %g", p.error());
  return false;
}

bool all() {
  constexpr Operand bf16 = Operand::bf16, e4m3 = Operand::e4m3;
  constexpr Activation gelu = Activation::gelu, silu = Activation::silu, none = Activation::none;
  return test<bf16, 64>({"plain", 200, 136, 328}) &&
         test<bf16, 128>({"all of the epilogue", 290, 184, 200, true, gelu, Gate::sample, true}) &&
         test<bf16, 64>({"gate an element", 130, 72, 72, true, silu, Gate::element, true}) &&
         test<bf16, 160>({"odd width", 129, 328, 136, true, Activation::gelu_tanh, Gate::none, true},
                         {3, 1, 1}) &&
         test<bf16, 256>({"wide", 140, 264, 264, true}, {1, 1, 1}) &&
         test<bf16, 64>({"ragged columns", 150, 75, 136, true, Activation::relu, Gate::sample, true}) &&
         test<bf16, 64>({"f32", 70, 136, 64, true, gelu, Gate::element, true, true}) &&
         test<bf16, 64>({"one row", 1, 8, 8, true, none, Gate::none, true}) &&
         test<e4m3, 64>({"fp8", 140, 136, 400, true, gelu, Gate::none, true, false, true}) &&
         test<e4m3, 128>({.name = "fp8 in groups",
                          .m = 140,
                          .n = 136,
                          .k = 400,
                          .bias = true,
                          .residual = true,
                          .groups = true}) &&
         test<e4m3, 128>({.name = "fp8 to fp8",
                          .m = 150,
                          .n = 272,
                          .k = 272,
                          .bias = true,
                          .activation = Activation::gelu_tanh,
                          .groups = true,
                          .out_fp8 = true},
                         {3, 1, 2}) &&
         test<bf16, 128>(
             {.name = "bf16 to fp8", .m = 300, .n = 144, .k = 136, .activation = silu, .out_fp8 = true},
             {4, 2, 1}) &&
         writes_fp8_once() &&
         test<bf16, 64>({"cluster", 300, 136, 648, true, none, Gate::none, true}, {4, 2, 2}) &&
         same_bits_from_every_plan() && moves_what_it_must() && fp8_sums_are_promoted();
}

}  // namespace

int main() {
  all();
  return sim::check::finish("gemm_sm90");
}
