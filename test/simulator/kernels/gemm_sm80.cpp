// gemm_sm80.cuh: values against double at awkward shapes, aligned and not; the same bits whatever the tile;
// what a GPU would have to move.
#include "cuda/kernels/gemm_sm80.cuh"

#include "simulator/cases/gemm_case.h"

namespace {

using namespace fsv;
using namespace fsv::test;
using namespace fsv::cuda::kernels;

template <class Tile>
sim::Report launch(const GemmProblem& p, bool fp8, int64_t w_stride, const sim::Options& options) {
  const GemmCase& c = p.of;
  MmaArgs args;
  args.x = {p.x.data(), nullptr, c.m, c.k, fp8};
  args.w = {p.w.data(), nullptr, c.n, w_stride, fp8};
  args.k = c.k;
  args.order = {(c.m + Tile::kM - 1) / Tile::kM, (c.n + Tile::kN - 1) / Tile::kN, 2};
  args.epilogue = p.epilogue();
  return sim::launch(static_cast<unsigned>(args.order.count()), Tile::kThreads, 1, Tile::kShared, options,
                     [&] { gemm_sm80<Tile>(args); });
}

using Large = MmaTile<128, 128, 64>;
using Medium = MmaTile<64, 64, 32>;
using Flat = MmaTile<16, 64, 16>;

template <class Tile>
bool test(const GemmCase& c, DType dtype = DType::bf16, int padding = 0) {
  const int w_stride = c.k + padding;
  const GemmProblem problem(c, dtype, c.k, w_stride);
  return holds(problem, [&](const GemmProblem& p, const sim::Options& options) {
    return launch<Tile>(p, dtype == DType::f8e4m3, w_stride, options);
  });
}

bool same_bits_from_every_tile() {
  const GemmCase c{"bits", 140, 90, 200, true, Activation::silu, Gate::none, false, true};
  const GemmProblem p(c, DType::bf16, c.k, c.k);
  launch<Large>(p, false, c.k, {});
  const auto bits = p.bits();
  launch<Medium>(p, false, c.k, {});
  if (!same_bits(p.bits(), bits, "medium against large tiles")) return false;
  launch<Flat>(p, false, c.k, {});
  return same_bits(p.bits(), bits, "flat against large tiles");
}

/// Each column of tiles reads x, each row of them W.
bool moves_what_it_must() {
  const GemmCase c = {"traffic", 256, 256, 192, false, Activation::silu, Gate::none, true};
  const GemmProblem p(c, DType::bf16, c.k, c.k);
  constexpr int64_t kOperand = 256 * 192 * 2, kResult = 256 * 256 * 2;
  const sim::Report report = launch<Large>(p, false, c.k, {});
  return sim::check::equal(static_cast<int64_t>(report.global_read), 4 * kOperand + kResult, "bytes read") &&
         sim::check::equal(static_cast<int64_t>(report.global_written), kResult, "bytes written");
}

bool all() {
  constexpr auto gelu = Activation::gelu, silu = Activation::silu;
  return test<Large>({"large", 150, 200, 136, true, gelu, Gate::sample, true}) &&
         test<Medium>({"medium", 70, 133, 72, true, silu, Gate::element, true}) &&
         test<Flat>({"flat", 3, 72, 264, true, Activation::gelu_tanh, Gate::none, true, true}) &&
         test<Medium>({"odd depth", 20, 68, 77, true, Activation::relu}) &&
         test<Medium>({"odd depth, padded weight", 20, 68, 77, true}, DType::bf16, 3) &&
         test<Flat>({"one", 1, 1, 1, true}) &&
         test<Flat>({"no depth", 5, 9, 0, true, silu, Gate::none, true}) &&
         test<Medium>({"fp8", 33, 40, 72, true, gelu, Gate::none, false, false, true}, DType::f8e4m3) &&
         same_bits_from_every_tile() && moves_what_it_must();
}

}  // namespace

int main() {
  all();
  return sim::check::finish("gemm_sm80");
}
