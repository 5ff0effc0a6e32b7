#include <algorithm>

#include "cuda/backend.h"
#include "cuda/kernels/attention_f32.cuh"
#include "cuda/kernels/attention_sm80.cuh"
#include "cuda/kernels/attention_sm90.cuh"
#include "cuda/launch/attention_plan.h"
#include "cuda/tensor_map.h"

namespace fsv::cuda {
namespace {

kernels::AttentionProblem problem_of(const AttentionArgs& args, int queries_of_tile) {
  const Shape& q = args.q.shape;
  kernels::AttentionProblem problem;
  problem.queries = q[1];
  problem.keys = args.k.shape[1];
  problem.query_tiles = (q[1] + queries_of_tile - 1) / queries_of_tile;
  problem.tiles = problem.query_tiles * q[0] * q[2];
  problem.heads = q[2];
  problem.dim = static_cast<int>(q[3]);
  problem.scale = args.scale;
  problem.bias = args.bias.as<float>();
  problem.key_lengths = args.key_lengths.as<int32_t>();
  return problem;
}

/// [B, N, H, D] in boxes of 64 columns of one head by `rows` of its tokens.
CUtensorMap map_of(const TensorView& view, int rows) {
  const Shape& s = view.shape;
  const int64_t head = s[3] * 2, token = s[2] * head;
  return make(TiledMap{.dtype = view.dtype,
                       .data = view.data,
                       .rank = 4,
                       .dims = {s[3], s[2], s[1], s[0]},
                       .strides = {head, token, s[1] * token},
                       .box = {64, 1, rows, 1},
                       .swizzle = ptx::SW_128});
}

/// One block of threads a tile, or as many as a grid may have.
unsigned grid_of(int64_t tiles) { return static_cast<unsigned>(std::min<int64_t>(tiles, INT_MAX)); }

template <class Tile>
void launch_sm90(cudaStream_t stream, const AttentionArgs& args, int processors) {
  const kernels::AttentionProblem problem = problem_of(args, Tile::kQueries);
  launch(stream, kernels::attention_sm90<Tile>,
         {.grid = static_cast<unsigned>(std::min<int64_t>(problem.tiles, processors)),
          .block = Tile::kThreads,
          .smem = Tile::kSharedBytes},
         map_of(args.q, Tile::kGroupQueries), map_of(args.k, Tile::kKeys), map_of(args.v, Tile::kKeys),
         map_of(args.out, Tile::kGroupQueries), problem);
}

template <class Tile>
void launch_sm80(cudaStream_t stream, const AttentionArgs& args) {
  const kernels::AttentionProblem problem = problem_of(args, Tile::kQueries);
  launch(stream, kernels::attention_sm80<Tile>,
         {.grid = grid_of(problem.tiles), .block = Tile::kThreads, .smem = Tile::kSharedBytes},
         args.q.as<Bf16>(), args.k.as<Bf16>(), args.v.as<Bf16>(), args.out.as<Bf16>(), problem);
}

template <class T>
void launch_f32(cudaStream_t stream, const AttentionArgs& args) {
  using Tile = kernels::AttentionF32;
  const kernels::AttentionProblem problem = problem_of(args, Tile::kQueries);
  launch(stream, kernels::attention_f32<T>,
         {.grid = grid_of(problem.tiles * ((problem.dim + Tile::kColumns - 1) / Tile::kColumns)),
          .block = Tile::kThreads,
          .smem = Tile::kSharedBytes},
         args.q.as<T>(), args.k.as<T>(), args.v.as<T>(), args.out.as<T>(), problem);
}

}  // namespace

void CudaBackend::attention(const AttentionArgs& args) {
  using Kernel = AttentionPlan::Kernel;
  using kernels::AttentionSm80, kernels::AttentionSm90;
  const AttentionPlan plan = plan_attention(args, card().hopper());
  switch (plan.kernel) {
    case Kernel::nothing:
      return;
    case Kernel::zeros:
      return check(cudaMemsetAsync(args.out.data, 0, static_cast<size_t>(args.out.bytes()), stream()),
                   "memset");
    case Kernel::sm90:
      if (plan.columns == 64 && args.bias)
        return launch_sm90<AttentionSm90<64, 128, true>>(stream(), args, card().processors);
      if (plan.columns == 64)
        return launch_sm90<AttentionSm90<64, 128, false>>(stream(), args, card().processors);
      if (plan.key_block == 160)
        return launch_sm90<AttentionSm90<128, 160, false>>(stream(), args, card().processors);
      return launch_sm90<AttentionSm90<128, 128, false>>(stream(), args, card().processors);
    case Kernel::sm80:
      if (plan.columns == 64) return launch_sm80<AttentionSm80<64>>(stream(), args);
      if (plan.columns == 128) return launch_sm80<AttentionSm80<128>>(stream(), args);
      return launch_sm80<AttentionSm80<256>>(stream(), args);
    case Kernel::f32:
      return args.q.dtype == DType::bf16 ? launch_f32<Bf16>(stream(), args)
                                         : launch_f32<float>(stream(), args);
  }
}

}  // namespace fsv::cuda
