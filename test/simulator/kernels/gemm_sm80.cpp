// gemm_sm80.cuh: values against double at awkward shapes, aligned and not, and the same bits whatever the
// tile.
#include "cuda/kernels/gemm_sm80.cuh"

#include "gemm_check.h"

namespace {

using namespace gemm_check;
using namespace fsv::cuda::kernels;
using fsv::DType;

template <class Tile>
sim::Report launch(const Problem& p, bool fp8, int64_t w_stride, const sim::Options& options) {
  const Case& c = p.of;
  MmaArgs args;
  args.x = {p.x.data(), nullptr, c.m, c.k, fp8};
  args.w = {p.w.data(), nullptr, c.n, w_stride, fp8};
  args.k = c.k;
  args.order = {(c.m + Tile::kM - 1) / Tile::kM, (c.n + Tile::kN - 1) / Tile::kN, 2};
  args.epilogue = p.epilogue();
  return sim::launch(dim3(args.order.count()), dim3(Tile::kThreads), dim3(1), Tile::kShared, options,
                     [&] { gemm_sm80<Tile>(args); });
}

using Large = MmaTile<128, 128, 64>;
using Medium = MmaTile<64, 64, 32>;
using Flat = MmaTile<16, 64, 16>;

template <class Tile>
bool test(const Case& c, DType dtype = DType::bf16, int padding = 0) {
  const int w_stride = c.k + padding;
  const Problem problem(c, dtype, c.k, w_stride);
  return holds(problem, [&](const Problem& p, const sim::Options& options) {
    return launch<Tile>(p, dtype == DType::f8e4m3, w_stride, options);
  });
}

template <class Tile>
std::vector<float> row_of(int row, int m) {
  const Case c{"bits", m, 90, 200, true, fsv::Activation::silu, Gate::none, false, true};
  const Problem p(Case{c}, DType::bf16, c.k, c.k);
  launch<Tile>(p, false, c.k, {});
  std::vector<float> values;
  for (int col = 0; col < c.n; col++) values.push_back(p.result(row, col));
  return values;
}

bool same_bits_from_every_tile() {
  const bool same =
      row_of<Large>(3, 140) == row_of<Medium>(3, 140) && row_of<Large>(3, 140) == row_of<Flat>(3, 140);
  if (!same) std::printf("bits: VALUES: depend on the tile\n");
  return same;
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
         same_bits_from_every_tile();
}

}  // namespace

int main() { return all() ? 0 : 1; }
