// The plan of a linear layer on a GPU: that its tiles cover the result, each once, whatever the shape, and
// that they keep the card busy at the sizes that networks have.
#include "cuda/launch/linear_plan.h"

#include <cmath>
#include <vector>

#include "check.h"

using namespace fsv;
using namespace fsv::cuda;

namespace {

/// What the blocks of a persistent kernel compute, as each_tile of gemm_sm90.cuh walks it.
void covers_once(const WgmmaPlan& plan, int64_t m, int64_t n) {
  const int64_t tiles_m = ceil_div(m, 128), tiles_n = ceil_div(n, plan.tile_n);
  std::vector<int> times(static_cast<size_t>(plan.order.tiles_m * plan.cluster * tiles_n));
  for (int block = 0; block < plan.blocks; block++)
    for (int i = block / plan.cluster; i < plan.order.count(); i += plan.blocks / plan.cluster) {
      const kernels::TileAt tile = plan.order[i];
      CHECK(tile.m >= 0 && tile.m < plan.order.tiles_m && tile.n >= 0 && tile.n < tiles_n);
      times[static_cast<size_t>((tile.m * plan.cluster + block % plan.cluster) * tiles_n + tile.n)]++;
    }
  for (int count : times) CHECK(count == 1);
  CHECK(plan.order.tiles_m * plan.cluster >= tiles_m &&
        plan.order.tiles_m * plan.cluster <= tiles_m + plan.cluster - 1);
}

void every_tile_once() {
  for (int sms : {1, 2, 3, 7, 16, 78, 132})
    for (int64_t m : {1, 5, 128, 129, 256, 257, 1000, 1860, 4097})
      for (int64_t n : {1, 8, 64, 65, 160, 500, 5120, 13824})
        for (int tile_n : kTileCols)
          for (int cluster = 1; cluster <= std::min(2, sms); cluster++) {
            const WgmmaPlan plan = wgmma_plan(m, n, 1024, sms, tile_n, cluster);
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
  const int64_t clusters = sms / plan.cluster;
  const int64_t rounds = ceil_div(plan.order.count(), clusters);
  return static_cast<double>(m * n) / static_cast<double>(rounds * sms * 128 * plan.tile_n);
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
      const double wide =
          efficiency(wgmma_plan(kRows[i], kCols[j], 10240, kSms, 256, 1), kRows[i], kCols[j], kSms);
      CHECK(std::abs(wide - kWide[i][j]) < 0.006);
      const WgmmaPlan plan = plan_wgmma(DType::bf16, kRows[i], kCols[j], 5120, kSms);
      const double chosen = efficiency(plan, kRows[i], kCols[j], kSms);
      CHECK(chosen > 0.9);
      CHECK(plan.cycles <= wgmma_plan(kRows[i], kCols[j], 10240, kSms, 256, 1).cycles);
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
  the_card_is_busy();
  few_rows_use_many_blocks();
  which_kernel();
  portable_tiles_cover();
  return check::finish();
}
