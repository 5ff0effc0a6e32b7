// y = residual + gate * act(x W^T + bias) on a card: which kernel, and its arguments.
#include "cuda/backend.h"
#include "cuda/kernels/gemm_f32.cuh"
#include "cuda/kernels/gemm_sm80.cuh"
#include "cuda/kernels/gemm_sm90.cuh"
#include "cuda/launch/linear_plan.h"
#include "cuda/launch/pack_linear.h"
#include "cuda/tensor_map.h"

namespace fsv::cuda {
namespace {

/// A linear layer as matrices: x [m, k], W [n, k] with rows `w_stride` elements apart.
struct Matrices {
  int64_t m, n, k, w_stride;
  const void* x;
  const void* w;
  DType w_dtype;

  explicit Matrices(const LinearArgs& args)
      : m(args.x.shape.elements(0, args.x.shape.rank - 1)),
        n(args.weight.shape[0]),
        k(args.weight.shape[1]),
        w_stride(args.weight.layout == Layout::plain ? k : packed_stride(args.weight.dtype, k)),
        x(args.x.data),
        w(args.weight.data),
        w_dtype(args.weight.dtype) {}
};

/// Whether TMA can address rows of so many bytes.
bool can_be_mapped(const void* data, int64_t row_bytes) { return is_aligned(data) && row_bytes % 16 == 0; }

/// What is brought into another form in scratch memory before wgmma can read it: bytes, 0 where it lies well.
struct Prepared {
  size_t w = 0, x = 0;

  Prepared(const LinearArgs& args, bool hopper) {
    const DType dtype = args.x.dtype;
    if (gemm_family(dtype, args.weight.shape[1], hopper) != GemmFamily::wgmma) return;
    const auto scratch = [](int64_t bytes) { return static_cast<size_t>(round_up(bytes, 512)); };
    // There is no product of bf16 and fp8: such a weight is packed, every time. A network packs it once.
    if (packs(args)) w = scratch(static_cast<int64_t>(packed_linear_bytes(args.weight)));
    // Views begin anywhere. (mma could read them, but might round differently.)
    else if (!can_be_mapped(args.weight.data, 0))
      w = scratch(args.weight.bytes());
    if (!can_be_mapped(args.x.data, 0)) x = scratch(args.x.bytes());
  }
  static bool packs(const LinearArgs& args) {
    return args.x.dtype == DType::bf16 && args.weight.dtype == DType::f8e4m3;
  }
  size_t bytes() const { return w + x; }
};

kernels::GemmEpilogue epilogue_of(const LinearArgs& args, const Matrices& of) {
  kernels::GemmEpilogue e;
  e.bias = args.bias.as<float>();
  // Beside an x of bf16 the weight's scales are multiplied in before, and scales of groups always are.
  if (args.x_scale) e.col_scale = args.weight_scale.as<float>();
  if (args.x_scale && scale_groups(args.x_scale, args.x) == 0) e.row_scale = args.x_scale.as<float>();
  e.gate = args.gate.data;
  e.residual = args.residual.data;
  e.out = args.out.data;
  e.out_scales = args.out_scales.as<float>();
  e.m = of.m;
  e.n = of.n;
  const bool gate_like_result = args.gate.shape.elements() == of.m * of.n && args.gate.dtype == args.dtype;
  if (args.gate && !gate_like_result) e.gate_rows = of.m / args.x.shape[0];
  e.activation = args.activation;
  e.out_f32 = args.dtype == DType::f32;
  return e;
}

/// Whether TMA can address the rows of y and of the residual, and pairs of the other terms can be loaded at
/// once.
bool stores_by_tma(const kernels::GemmEpilogue& e) {
  const auto pairs = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 8 == 0; };
  return !e.out_f32 && can_be_mapped(e.out, e.out_scales ? e.n : 2 * e.n) &&
         can_be_mapped(e.residual, 2 * e.n) && pairs(e.bias) && pairs(e.col_scale) && pairs(e.gate);
}

CUtensorMap rows_map(DType dtype, const void* data, int64_t rows, int64_t cols, int box_rows, int box_cols,
                     ptx::Swizzle swizzle) {
  return make(TiledMap{.dtype = dtype,
                       .data = data,
                       .rank = 2,
                       .dims = {cols, rows},
                       .strides = {cols * static_cast<int64_t>(size_of(dtype))},
                       .box = {box_cols, box_rows},
                       .swizzle = swizzle});
}

template <class Tile>
void launch_wgmma(cudaStream_t stream, const LinearArgs& args, const Matrices& of, const WgmmaPlan& plan) {
  const DType dtype = args.x.dtype;
  kernels::GemmArgs p;
  p.m = static_cast<int>(of.m);
  p.n = static_cast<int>(of.n);
  p.k = static_cast<int>(of.k);
  p.order = plan.order;
  p.last = plan.last;
  p.cluster = plan.cluster;
  p.epilogue = epilogue_of(args, of);
  p.by_tma = stores_by_tma(p.epilogue);
  if (args.x_scale && !p.epilogue.row_scale) {
    p.x_scales = args.x_scale.as<float>();
    p.groups = static_cast<int>(scale_groups(args.x_scale, args.x));
  }
  const auto x = rows_map(dtype, of.x, of.m, of.k, Tile::kM, Tile::kK, ptx::SW_128);
  const auto weight = [&](int cols) {
    return rows_map(dtype, of.w, of.n, of.k, cols / plan.cluster, Tile::kK, ptx::SW_128);
  };
  const auto w = weight(Tile::kN), w_last = weight(Tile::kLast);
  CUtensorMap residual = {}, out = {};
  const auto panels = [&](const TensorView& y) {
    return rows_map(DType::bf16, y.data, of.m, of.n, 64, Tile::kPanel, Tile::kPanelSwizzle);
  };
  if (p.by_tma)
    out = p.epilogue.out_scales ? rows_map(DType::f8e4m3, args.out.data, of.m, of.n, 64, 128, ptx::SW_128)
                                : panels(args.out);
  if (p.by_tma && args.residual) residual = panels(args.residual);
  launch(stream, kernels::gemm_sm90<Tile>,
         {.grid = static_cast<unsigned>(plan.blocks),
          .block = Tile::kThreads,
          .smem = Tile::kShared,
          .cluster = static_cast<unsigned>(plan.cluster)},
         x, w, w_last, residual, out, p);
}

/// Calls the kernel of plan.tile, which is one of `kTiles[kFirst...]`.
template <kernels::Operand kOperand, const auto& kTiles, size_t kFirst = 0>
void launch_tile(cudaStream_t stream, const LinearArgs& args, const Matrices& of, const WgmmaPlan& plan) {
  constexpr WgmmaTile tile = kTiles[kFirst];
  if constexpr (kFirst + 1 < std::size(kTiles))
    if (plan.tile != tile) return launch_tile<kOperand, kTiles, kFirst + 1>(stream, args, of, plan);
  launch_wgmma<kernels::GemmTile<kOperand, tile.rows, tile.cols, tile.last>>(stream, args, of, plan);
}

void launch_wgmma(cudaStream_t stream, const LinearArgs& args, const Matrices& of, const WgmmaPlan& plan) {
  using kernels::Operand;
  if (args.x.dtype == DType::f8e4m3)
    launch_tile<Operand::e4m3, kFp8Tiles>(stream, args, of, plan);
  else
    launch_tile<Operand::bf16, kTiles>(stream, args, of, plan);
}

template <class Tile>
void launch_mma(cudaStream_t stream, const kernels::MmaArgs& p) {
  launch(stream, kernels::gemm_sm80<Tile>,
         {.grid = static_cast<unsigned>(p.order.count()), .block = Tile::kThreads, .smem = Tile::kShared}, p);
}

void launch_mma(cudaStream_t stream, const LinearArgs& args, const Matrices& of, int processors) {
  const MmaPlan plan = plan_mma(of.m, of.n, processors);
  kernels::MmaArgs p;
  p.x = {of.x, nullptr, of.m, of.k, args.x.dtype == DType::f8e4m3};
  if (args.x_scale && scale_groups(args.x_scale, args.x) > 0) {
    p.x.scale = args.x_scale.as<float>();
    p.x.groups = scale_groups(args.x_scale, args.x);
  }
  p.w = {of.w, args.x_scale ? nullptr : args.weight_scale.as<float>(), of.n, of.w_stride,
         of.w_dtype == DType::f8e4m3};
  p.k = of.k;
  p.order = plan.order;
  p.epilogue = epilogue_of(args, of);
  switch (plan.size) {
    case MmaTileSize::large:
      return launch_mma<kernels::MmaTile<128, 128, 64>>(stream, p);
    case MmaTileSize::medium:
      return launch_mma<kernels::MmaTile<64, 64, 32>>(stream, p);
    case MmaTileSize::flat:
      return launch_mma<kernels::MmaTile<16, 64, 16>>(stream, p);
  }
}

void launch_fma(cudaStream_t stream, const LinearArgs& args, const Matrices& of) {
  using Tile = kernels::FmaTile;
  kernels::FmaArgs p;
  p.x = static_cast<const float*>(of.x);
  p.w = static_cast<const float*>(of.w);
  p.k = of.k;
  p.w_stride = of.w_stride;
  p.epilogue = epilogue_of(args, of);
  launch(stream, kernels::gemm_f32,
         {.grid = blocks(ceil_div(of.m, Tile::kM) * ceil_div(of.n, Tile::kN), 1),
          .block = Tile::kThreads,
          .smem = Tile::kShared},
         p);
}

/// Whether the kernel for this product makes a result of fp8 itself.
bool quantizes(const LinearArgs& args, bool hopper) {
  const Matrices of(args);
  return gemm_family(args.x.dtype, of.k, hopper) == GemmFamily::wgmma && stores_by_tma(epilogue_of(args, of));
}

}  // namespace

size_t CudaBackend::workspace_bytes(const LinearArgs& args) const {
  if (args.dtype == DType::f8e4m3 && !quantizes(args, card().hopper())) return two_pass_bytes(args);
  return Prepared(args, card().hopper()).bytes();
}

void CudaBackend::linear(const LinearArgs& args) {
  Matrices of(args);
  if (of.m == 0 || of.n == 0) return;
  const bool fp8_result = args.dtype == DType::f8e4m3;
  if (fp8_result && !quantizes(args, card().hopper())) return then_quantize(&CudaBackend::linear, args);
  const Prepared prepared(args, card().hopper());
  if (prepared.w > 0) {
    of.w = workspace<char>();
    if (Prepared::packs(args))
      pack_linear(stream(), args.weight, args.weight_scale, workspace<char>());
    else
      copy(workspace<char>(), args.weight.data, static_cast<size_t>(args.weight.bytes()));
  }
  if (prepared.x > 0) {
    of.x = workspace<char>() + prepared.w;
    copy(workspace<char>() + prepared.w, args.x.data, static_cast<size_t>(args.x.bytes()));
  }
  switch (gemm_family(args.x.dtype, of.k, card().hopper())) {
    case GemmFamily::wgmma:
      return launch_wgmma(
          stream(), args, of,
          plan_wgmma(args.x.dtype, of.m, of.n, of.k, card().processors, fp8_result ? int{kScaleGroup} : 0));
    case GemmFamily::mma:
      return launch_mma(stream(), args, of, card().processors);
    case GemmFamily::fma:
      return launch_fma(stream(), args, of);
  }
}

}  // namespace fsv::cuda
