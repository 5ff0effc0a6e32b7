// gemm_sm90.cuh: values against double at awkward shapes, under several schedules; the same bits whatever the
// tile and the way out; what a GPU would have to move.
#include "cuda/kernels/gemm_sm90.cuh"

#include "simulator/cases/gemm_case.h"

namespace {

using namespace fsv;
using namespace fsv::test;
using namespace fsv::cuda::kernels;

struct Plan {
  unsigned blocks = 2, cluster = 1;
  int group = 2;
  bool by_tma = true;
  int narrow = 0;  ///< tiles of kLast columns in a row
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
  const auto ceil_div = [](int value, int by) { return value > 0 ? (value + by - 1) / by : 0; };
  const int tiles_m = ceil_div(c.m, Tile::kM * cluster);
  args.order = {tiles_m, ceil_div(c.n - plan.narrow * Tile::kLast, Tile::kN), plan.group};
  args.last = {tiles_m, plan.narrow, plan.group};
  args.cluster = cluster;
  args.by_tma = plan.by_tma && !c.out_f32 && c.n % (c.out_fp8 ? 16 : 8) == 0;
  if (c.groups) {
    args.x_scales = p.x_scales();
    args.groups = c.scales_a_row();
  }
  args.epilogue = p.epilogue();
  const auto x = map(p.x.data(), element, c.m, c.k, {Tile::kK, Tile::kM}, ptx::SW_128);
  const auto weight = [&](int cols) {
    return map(p.w.data(), element, c.n, c.k, {Tile::kK, cols / cluster}, ptx::SW_128);
  };
  const auto w = weight(Tile::kN), w_last = weight(Tile::kLast);
  ptx::TensorMap residual{}, out{};
  if (c.out_fp8) {
    out = map(p.out(), 1, c.m, c.n, {128, 64}, ptx::SW_128);
  } else if (args.by_tma) {
    out = map(p.out(), 2, c.m, c.n, {Tile::kPanel, 64}, Tile::kPanelSwizzle);
    if (c.residual) residual = map(p.residual(), 2, c.m, c.n, {Tile::kPanel, 64}, Tile::kPanelSwizzle);
  }
  return sim::launch(plan.blocks, Tile::kThreads, plan.cluster, Tile::kShared, options,
                     [&] { gemm_sm90<Tile>(x, w, w_last, residual, out, args); });
}

template <class Tile>
bool test(const GemmCase& c, const Plan& plan = {}) {
  const GemmProblem problem(c, Tile::kOperand == Operand::bf16 ? DType::bf16 : DType::f8e4m3, c.k, c.k);
  return holds(problem, [&](const GemmProblem& p, const sim::Options& options) {
    return launch<Tile>(p, plan, options);
  });
}
/// With tiles of 128 rows.
template <Operand kOperand, int kCols>
bool test(const GemmCase& c, const Plan& plan = {}) {
  return test<GemmTile<kOperand, 128, kCols>>(c, plan);
}

using Bf16x64 = GemmTile<Operand::bf16, 128, 64>;
using Bf16x128 = GemmTile<Operand::bf16, 128, 128>;
using Bf16x160 = GemmTile<Operand::bf16, 128, 160>;
using Bf16Wide = GemmTile<Operand::bf16, 128, 256, 160>;
using Bf16Tall = GemmTile<Operand::bf16, 192, 192, 160>;

bool same_bits_from_every_plan() {
  const GemmCase c = {"plans", 256, 416, 192, true, Activation::gelu, Gate::sample, true};
  const GemmProblem p(c, DType::bf16, c.k, c.k);
  launch<Bf16x128>(p, {}, {});
  const auto bits = p.bits();
  const auto same = [&](const char* what, const sim::Report& report) {
    return sound(report, what) && same_bits(p.bits(), bits, what);
  };
  return same("another width", launch<Bf16x64>(p, {}, {})) &&
         same("other panels", launch<Bf16x160>(p, {}, {})) &&
         same("clusters", launch<Bf16x128>(p, {4, 2, 1}, {})) &&
         same("more rows", launch<Bf16Tall>(p, {}, {})) &&
         same("two widths", launch<Bf16Wide>(p, {2, 1, 1, true, 1}, {})) &&
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
  const sim::Report report = launch<GemmTile<Operand::e4m3, 128, 128>>(p, {4, 1, 2}, {});
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
  launch<GemmTile<Operand::e4m3, 128, 64>>(p, {1, 1, 1}, options);
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
         test<Bf16Wide>({"wide", 140, 264, 264, true}, {1, 1, 1}) &&
         test<Bf16Wide>({"two widths", 140, 560, 72, true, gelu, Gate::sample, true}, {3, 1, 2, true, 2}) &&
         test<Bf16Wide>({"two widths in clusters", 300, 408, 136, true, none, Gate::none, true},
                        {4, 2, 1, true, 1}) &&
         test<Bf16Wide>({"two widths by chunks", 130, 413, 136, true, silu, Gate::sample, true},
                        {2, 1, 1, true, 1}) &&
         test<GemmTile<bf16, 128, 224, 192>>({"two odd widths", 300, 408, 136, true, none, Gate::none, true},
                                             {4, 2, 1, true, 1}) &&
         test<GemmTile<e4m3, 128, 192, 64>>(
             {"two widths of fp8", 140, 312, 272, true, gelu, Gate::none, true, false, true},
             {2, 1, 1, true, 2}) &&
         test<Bf16Tall>({"three warpgroups", 390, 344, 264, true, gelu, Gate::sample, true},
                        {3, 1, 2, true, 1}) &&
         test<Bf16Tall>({"three warpgroups in clusters", 400, 200, 264, true, none, Gate::element, true},
                        {2, 2, 1}) &&
         test<Bf16Tall>({"three warpgroups to f32", 200, 200, 72, true, none, Gate::element, true, true},
                        {2, 1, 1}) &&
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
