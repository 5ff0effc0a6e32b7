// The plan of a linear layer on a GPU: that its tiles cover the result, each once, whatever the shape, and
// that they keep the card busy at the sizes that networks have.
#include "cuda/launch/linear_plan.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"

using namespace fsv;
using namespace fsv::cuda;

namespace {

/// What the blocks of a persistent kernel compute, as each_tile of gemm_sm90.cuh walks it.
void covers_once(const WgmmaPlan& plan, int64_t m, int64_t n) {
  const int64_t tiles_m = ceil_div(m, plan.tile.rows), tiles_n = plan.order.tiles_n + plan.last.tiles_n;
  const int wide = plan.order.count();
  std::vector<int> times(static_cast<size_t>(plan.order.tiles_m * plan.cluster * tiles_n));
  for (int block = 0; block < plan.blocks; block++)
    for (int i = block / plan.cluster; i < wide + plan.last.count(); i += plan.blocks / plan.cluster) {
      kernels::TileAt tile = i < wide ? plan.order[i] : plan.last[i - wide];
      CHECK(tile.n >= 0 && tile.n < (i < wide ? plan.order : plan.last).tiles_n);
      if (i >= wide) tile.n += plan.order.tiles_n;
      CHECK(tile.m >= 0 && tile.m < plan.order.tiles_m);
      times[static_cast<size_t>((tile.m * plan.cluster + block % plan.cluster) * tiles_n + tile.n)]++;
    }
  for (int count : times) CHECK(count == 1);
  CHECK(plan.order.tiles_m * plan.cluster >= tiles_m &&
        plan.order.tiles_m * plan.cluster <= tiles_m + plan.cluster - 1);
  const int64_t cols =
      int64_t{plan.order.tiles_n} * plan.tile.cols + int64_t{plan.last.tiles_n} * plan.tile.last;
  CHECK(cols >= n && cols - n < std::max(plan.tile.cols, plan.tile.last));
}

void every_tile_once() {
  for (int sms : {1, 2, 3, 7, 16, 78, 132})
    for (int64_t m : {1, 5, 128, 129, 256, 257, 1000, 1860, 4097})
      for (int64_t n : {1, 8, 64, 65, 160, 500, 5120, 13824})
        for (const WgmmaTile& tile : kTiles)
          for (int cluster = 1; cluster <= std::min(2, sms); cluster++)
            for (int64_t narrow = 0; narrow <= (tile.last < tile.cols ? ceil_div(n, tile.last) : 0);
                 narrow = 2 * narrow + 1) {
              const WgmmaPlan plan = in_groups(wgmma_plan(m, n, 1024, sms, tile, cluster, narrow));
              CHECK(plan.blocks >= 1 && plan.blocks <= sms && plan.blocks % cluster == 0);
              covers_once(plan, m, n);
            }
}

/// Every group size, not only those that a plan has.
void every_order_once() {
  for (int tiles_m = 1; tiles_m <= 9; tiles_m++)
    for (int tiles_n = 1; tiles_n <= 9; tiles_n++)
      for (int group = 1; group <= 11; group++) {
        const kernels::TileOrder order{tiles_m, tiles_n, group};
        std::vector<int> times(static_cast<size_t>(order.count()));
        for (int i = 0; i < order.count(); i++)
          times[static_cast<size_t>(order[i].m * tiles_n + order[i].n)]++;
        for (int count : times) CHECK(count == 1);
      }
}

/// Work over the capacity of all rounds: full waves and full edge tiles.
double efficiency(const WgmmaPlan& plan, int64_t m, int64_t n, int sms) {
  int64_t most = 0;  // elements of the busiest block
  for (int block = 0; block < plan.blocks; block += plan.cluster) {
    int64_t cols = 0;
    for (int i = block / plan.cluster; i < plan.order.count() + plan.last.count();
         i += plan.blocks / plan.cluster)
      cols += i < plan.order.count() ? plan.tile.cols : plan.tile.last;
    most = std::max(most, cols * plan.tile.rows);
  }
  return static_cast<double>(m * n) / static_cast<double>(most * sms);
}

/// That the model of a plan's cycles counts what the busiest block does.
void the_busiest_block() {
  for (int64_t clusters : {1, 2, 5, 66})
    for (int64_t wide : {0, 1, 4, 5, 7, 66, 130, 255})
      for (int64_t narrow : {0, 1, 2, 5, 13, 75, 140}) {
        std::vector<double> cycles(static_cast<size_t>(clusters));
        for (int64_t i = 0; i < wide + narrow; i++)
          cycles[static_cast<size_t>(i % clusters)] += i < wide ? 1024 : 736;
        CHECK(detail::cycles_of_all(clusters, wide, 1024, narrow, 736) ==
              *std::max_element(cycles.begin(), cycles.end()));
      }
}

/// Linear layers of the 14B network, where a round of one kind of tiles would end half empty.
void two_widths_fill_rounds() {
  constexpr WgmmaTile kWide = {128, 256, 160};
  for (int64_t k : {5120, 13824}) {
    const WgmmaPlan plan = plan_wgmma(DType::bf16, 3720, 5120, k, 132);
    CHECK(plan.tile == kWide && plan.last.tiles_n == 5 && plan.blocks == 132);
    CHECK(plan.cycles < 0.95 * wgmma_plan(3720, 5120, 2 * k, 132, kWide, 2).cycles);
  }
  CHECK(plan_wgmma(DType::bf16, 3720, 13824, 5120, 132).tile == (WgmmaTile{192, 192, 160}));
}

/// The waves of 128 x 256 tiles, computed by hand; a plan trades some of them for the cheaper steps of wide
/// tiles.
void the_card_is_busy() {
  constexpr int kSms = 132;
  constexpr int64_t kRows[] = {2048, 4096, 6144, 8192, 10240}, kCols[] = {5120, 13824, 15360};
  constexpr double kWide[5][3] = {
      {.81, .94, .91}, {.97, .94, .97}, {.91, .98, .99}, {.97, .97, .97}, {.93, .99, .98}};
  for (int i = 0; i < 5; i++)
    for (int j = 0; j < 3; j++) {
      const double wide = efficiency(wgmma_plan(kRows[i], kCols[j], 10240, kSms, {128, 256, 160}, 1),
                                     kRows[i], kCols[j], kSms);
      CHECK(std::abs(wide - kWide[i][j]) < 0.006);
      const WgmmaPlan plan = plan_wgmma(DType::bf16, kRows[i], kCols[j], 5120, kSms);
      const double chosen = efficiency(plan, kRows[i], kCols[j], kSms);
      CHECK(chosen > 0.9);
      CHECK(plan.cycles <= wgmma_plan(kRows[i], kCols[j], 10240, kSms, {128, 256, 160}, 1).cycles);
    }
}

void few_rows_use_many_blocks() {
  const WgmmaPlan plan = plan_wgmma(DType::bf16, 1, 5120, 5120, 132);
  CHECK(plan.blocks >= 80 && plan.cluster == 1);
  CHECK(plan_mma(1, 5120, 108).size == MmaTileSize::flat);
}

void which_kernel() {
  CHECK(gemm_family(DType::f32, 64, true) == GemmFamily::fma);
  CHECK(gemm_family(DType::bf16, 64, true) == GemmFamily::wgmma);
  CHECK(gemm_family(DType::bf16, 64, false) == GemmFamily::mma);
  CHECK(gemm_family(DType::bf16, 60, true) == GemmFamily::mma);
  CHECK(gemm_family(DType::bf16, 0, true) == GemmFamily::mma);
  CHECK(gemm_family(DType::f8e4m3, 24, true) == GemmFamily::mma);
  CHECK(gemm_family(DType::f8e4m3, 32, true) == GemmFamily::wgmma);
  CHECK(packed_stride(DType::bf16, 9) == 16 && packed_stride(DType::f32, 9) == 12 &&
        packed_stride(DType::bf16, 0) == 0);
}

void portable_tiles_cover() {
  for (int64_t m : {1, 16, 17, 1000, 5000})
    for (int64_t n : {1, 64, 65, 5120}) {
      const MmaPlan plan = plan_mma(m, n, 108);
      const int rows = plan.size == MmaTileSize::flat ? 16 : plan.size == MmaTileSize::medium ? 64 : 128;
      const int cols = plan.size == MmaTileSize::large ? 128 : 64;
      CHECK(plan.order.tiles_m == ceil_div(m, rows) && plan.order.tiles_n == ceil_div(n, cols));
    }
}

}  // namespace

int main() {
  every_order_once();
  every_tile_once();
  the_busiest_block();
  the_card_is_busy();
  two_widths_fill_rounds();
  few_rows_use_many_blocks();
  which_kernel();
  portable_tiles_cover();
  return check::finish();
}
