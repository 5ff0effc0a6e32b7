#include "simulator/plans.h"

#include "cuda/kernels/attention_sm90.cuh"
#include "cuda/launch/attention_plan.h"
#include "cuda/launch/conv3d_plan.h"
#include "cuda/launch/linear_plan.h"

namespace sim {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class Tile>
Plan conv_plan(const fsv::cuda::Conv3dPlan& plan, const fsv::cuda::kernels::Conv& conv, int processors) {
  const auto& box = plan.box;
  const int64_t products = int64_t{conv.kt} * conv.kw * conv.kh * box.slices;
  Plan p;
  p.kernel = "conv3d_sm90";
  p.rows = Tile::kPixels, p.columns = Tile::kN;
  p.tiles = box.tiles(conv.batch);
  p.rounds = ceil_div(p.tiles, processors);
  p.cycles = static_cast<double>(p.rounds) * static_cast<double>(products) *
             fsv::cuda::conv3d_plan_detail::product_cycles<Tile>(box);
  return p;
}

}  // namespace

Plan plan_linear(fsv::DType dtype, int64_t m, int64_t n, int64_t k, int processors, bool fp8_result) {
  using namespace fsv::cuda;
  Plan p;
  switch (gemm_family(dtype, k, true)) {
    case GemmFamily::fma:
      p.kernel = "gemm_f32";
      return p;
    case GemmFamily::mma:
      p.kernel = "gemm_sm80";
      return p;
    case GemmFamily::wgmma:
      break;
  }
  const WgmmaPlan plan = plan_wgmma(dtype, m, n, k, processors, fp8_result ? int{fsv::kScaleGroup} : 0);
  p.kernel = "gemm_sm90";
  const bool wide = plan.order.count() > 0, narrow = plan.last.count() > 0;
  p.rows = plan.tile.rows, p.columns = wide ? plan.tile.cols : plan.tile.last, p.cluster = plan.cluster;
  if (wide && narrow) p.last_columns = plan.tile.last;
  p.tiles = plan.tiles();
  p.rounds = ceil_div(p.tiles, plan.blocks);
  p.cycles = plan.cycles;
  return p;
}

Plan plan_attention(const fsv::AttentionArgs& args, int processors) {
  using namespace fsv::cuda;
  const AttentionPlan plan = fsv::cuda::plan_attention(args, true);
  Plan p;
  if (plan.kernel != AttentionPlan::Kernel::sm90) {
    p.kernel = plan.kernel == AttentionPlan::Kernel::sm80 ? "attention_sm80" : "attention_f32";
    return p;
  }
  p.kernel = "attention_sm90";
  p.rows = plan.columns == 64 ? kernels::AttentionSm90<64, 128, false>::kQueries
                              : kernels::AttentionSm90<128, 128, false>::kQueries;
  p.columns = plan.key_block;
  p.tiles = args.q.shape[0] * args.q.shape[2] * ceil_div(args.q.shape[1], p.rows);
  p.rounds = ceil_div(p.tiles, processors);
  return p;
}

Plan plan_conv3d(const fsv::Conv3dArgs& args, int processors) {
  using namespace fsv::cuda;
  const kernels::Conv conv = kernels::conv_of(args);
  const kernels::ConvLayout layout = kernels::conv_layout(args.x.dtype, args.weight.shape, args.groups);
  Conv3dPlan plan = fsv::cuda::plan_conv3d(conv, layout, {true, processors}, args.norm);
  // A norm that no kernel takes with it follows the convolution.
  if (args.norm && plan.kernel != ConvKernel::sm90)
    plan = fsv::cuda::plan_conv3d(conv, layout, {true, processors});
  if (plan.kernel == ConvKernel::sm90) switch (plan.tile) {
      case ConvTile::b2n128:
        return conv_plan<kernels::Conv3dTile<2, 128>>(plan, conv, processors);
      case ConvTile::b1n128:
        return conv_plan<kernels::Conv3dTile<1, 128>>(plan, conv, processors);
      case ConvTile::b2n64:
        return conv_plan<kernels::Conv3dTile<2, 64>>(plan, conv, processors);
      case ConvTile::b2n32:
        return conv_plan<kernels::Conv3dTile<2, 32>>(plan, conv, processors);
      case ConvTile::b2n16:
        return conv_plan<kernels::Conv3dTile<2, 16>>(plan, conv, processors);
    }
  Plan p;
  p.kernel = plan.kernel == ConvKernel::depthwise ? "conv3d_depthwise" : "conv3d_portable";
  return p;
}

}  // namespace sim
