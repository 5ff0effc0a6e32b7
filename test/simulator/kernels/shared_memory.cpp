// The dynamic shared memory of the kernels' blocks, which ptxas does not know, against the committed
// csrc/cuda/shared_memory.table, so that every change of it shows in review. FSVIDEO_UPDATE=1 rewrites it.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

#include "cuda/kernels/attention_f32.cuh"
#include "cuda/kernels/attention_sm80.cuh"
#include "cuda/kernels/attention_sm90.cuh"
#include "cuda/kernels/conv3d_portable.cuh"
#include "cuda/kernels/gemm_f32.cuh"
#include "cuda/kernels/gemm_sm80.cuh"
#include "cuda/kernels/gemm_sm90.cuh"
#include "cuda/kernels/layer_memory.cuh"
#include "cuda/kernels/linear_attention.cuh"
#include "cuda/kernels/move.cuh"
#include "cuda/launch/conv3d_plan.h"
#include "cuda/launch/group_norm_plan.h"
#include "cuda/launch/linear_plan.h"
#include "simulator/check.h"

namespace {

using namespace fsv;
using namespace fsv::cuda;
using namespace fsv::cuda::kernels;

std::vector<std::string> rows;

void row(const std::string& kernel, int64_t bytes) {
  rows.push_back(kernel + "  " + std::to_string(bytes) + " bytes");
  sim::check::checks++;
  constexpr int64_t kMost = 232448;  // of a block on Hopper
  if (bytes > kMost)
    sim::check::fail("values", "%s wants %lld bytes", kernel.c_str(), static_cast<long long>(bytes));
}

/// All of `kTiles`, from kFirst on.
template <Operand kOperand, const auto& kTiles, size_t kFirst = 0>
void gemm() {
  constexpr WgmmaTile tile = kTiles[kFirst];
  std::string name = kOperand == Operand::bf16 ? "bf16 " : "e4m3 ";
  name += std::to_string(tile.rows) + " x " + std::to_string(tile.cols);
  if (tile.last < tile.cols) name += " or " + std::to_string(tile.last);
  row("gemm_sm90 " + name, GemmTile<kOperand, tile.rows, tile.cols, tile.last>::kShared);
  if constexpr (kFirst + 1 < std::size(kTiles)) gemm<kOperand, kTiles, kFirst + 1>();
}

template <int kDim, int kKeys, bool kBias>
void attention() {
  row("attention_sm90 " + std::to_string(kDim) + ", " + std::to_string(kKeys) + " keys" +
          (kBias ? ", bias" : ""),
      AttentionSm90<kDim, kKeys, kBias>::kSharedBytes);
}

/// 3 x 3 x 3, as the plan for an H200 takes it.
void conv(const char* where, Shape x, int64_t outputs) {
  Conv3dArgs a;
  a.x = TensorView({DType::bf16, x}, nullptr);
  a.weight = TensorView({DType::bf16, {outputs, x[4], 3, 3, 3}}, nullptr);
  a.pad_left = a.pad_right = a.pad_h = a.pad_w = 1;
  a.out = TensorView({DType::bf16, {x[0], x[1], x[2], x[3], outputs}}, nullptr);
  const Conv3dPlan plan =
      plan_conv3d(conv_of(a), conv_layout(DType::bf16, a.weight.shape, 1), {.hopper = true});
  row("conv3d_sm90 " + std::to_string(x[4]) + " to " + std::to_string(outputs) + " channels, " + where,
      plan.shared_bytes);
}

void group_norm(DType dtype, int64_t channels) {
  const TensorView x({dtype, {1, 4, 192, 320, channels}}, nullptr);
  row("group_norm " + std::string(name_of(dtype)) + ", 32 groups of " + std::to_string(channels / 32) +
          " channels",
      static_cast<int64_t>(stats_shape(plan_stats(x, 32)).smem));
}

void list() {
  gemm<Operand::bf16, kTiles>();
  gemm<Operand::e4m3, kFp8Tiles>();
  row("gemm_sm80 128 x 128", MmaTile<128, 128, 64>::kShared);
  row("gemm_sm80 64 x 64", MmaTile<64, 64, 32>::kShared);
  row("gemm_sm80 16 x 64", MmaTile<16, 64, 16>::kShared);
  row("gemm_f32", FmaTile::kShared);
  attention<128, 160, false>(), attention<128, 128, false>();
  attention<64, 128, false>(), attention<64, 128, true>();
  row("attention_sm80 64", AttentionSm80<64>::kSharedBytes);
  row("attention_sm80 128", AttentionSm80<128>::kSharedBytes);
  row("attention_sm80 256", AttentionSm80<256>::kSharedBytes);
  row("attention_f32", AttentionF32::kSharedBytes);
  row("conv3d_portable bf16, 128 channels", kConvGatherShared<ConvMmaTile<128, 2>>);
  row("conv3d_portable bf16, 32 channels", kConvGatherShared<ConvMmaTile<32, 4>>);
  row("conv3d_portable f32", kConvGatherShared<ConvFmaTile>);
  conv("16 x 768 x 1280", {1, 16, 768, 1280, 128}, 128);
  conv("8 x 384 x 640", {1, 8, 384, 640, 256}, 256);
  conv("4 x 192 x 320", {1, 4, 192, 320, 512}, 512);
  conv("4 x 768 x 1280", {1, 4, 768, 1280, 64}, 64);
  conv("16 x 768 x 1280", {1, 16, 768, 1280, 128}, 3);
  conv("20 x 64 x 64", {1, 20, 64, 64, 64}, 64);
  conv("20 x 128 x 128", {1, 20, 128, 128, 16}, 16);
  for (DType dtype : {DType::bf16, DType::f32})
    for (int64_t channels : {128, 640}) group_norm(dtype, channels);
  row("linear_attention, sums", LinearAttentionSums::kSharedBytes);
  row("linear_attention, result", LinearAttentionApply::kSharedBytes);
  row("norms of rows, dynamic_mask", kRowShared);
  row("all_finite", kFiniteShared);
  row("layer memory, route_mma", kRouteShared);
  row("layer memory, mix", kMixShared);
  row("permute, squares", kSquareShared);
}

}  // namespace

int main() {
  list();
  std::ostringstream table;
  table << "# Dynamic shared memory of a block. Of conv3d_sm90 and group_norm, which take what their plans "
           "say,\n"
           "# some sizes of the autoencoders. Written by the test shared_memory with FSVIDEO_UPDATE=1.\n";
  for (const std::string& line : rows) table << line << "\n";
  const std::string here = __FILE__;
  const std::string file = here.substr(0, here.rfind("test/simulator")) + "csrc/cuda/shared_memory.table";
  if (std::getenv("FSVIDEO_UPDATE")) std::ofstream(file) << table.str();
  std::ostringstream committed;
  committed << std::ifstream(file).rdbuf();
  sim::check::checks++;
  if (committed.str() != table.str())
    sim::check::fail("values", "%s is not what the kernels take, which is:\n%s", file.c_str(),
                     table.str().c_str());
  return sim::check::finish("shared_memory");
}
