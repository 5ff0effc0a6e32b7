#include <algorithm>
#include <climits>

#include "cuda/backend.h"
#include "cuda/kernels/linear_attention.cuh"

namespace fsv::cuda {
namespace {

/// Tokens that one block sums up: enough blocks for a frame of 720p alone, few enough sums to read again.
constexpr int64_t kChunk = 4096;

kernels::LinearAttentionProblem problem_of(const LinearAttentionArgs& args) {
  const Shape& x = args.qkv.shape;
  kernels::LinearAttentionProblem problem;
  problem.frames = x.elements(0, x.rank - 2);
  problem.tokens = x[-2];
  problem.chunk = kChunk;
  problem.dim = static_cast<int>(args.head_dim);
  problem.heads = x[-1] / (3 * args.head_dim);
  problem.eps = args.eps;
  return problem;
}

unsigned grid_of(int64_t blocks) { return static_cast<unsigned>(std::min<int64_t>(blocks, INT_MAX)); }

template <class T>
void launch_both(cudaStream_t stream, const LinearAttentionArgs& args, float* sums) {
  using kernels::LinearAttentionSums, kernels::LinearAttentionApply;
  const kernels::LinearAttentionProblem problem = problem_of(args);
  const int64_t heads = problem.frames * problem.heads, tiles = problem.tiles();
  const int64_t token_blocks =
      (problem.tokens + LinearAttentionApply::kBlockTokens - 1) / LinearAttentionApply::kBlockTokens;
  launch(stream, kernels::linear_attention_sums<T>,
         {.grid = grid_of(heads * problem.chunks() * tiles * tiles),
          .block = LinearAttentionSums::kThreads,
          .smem = LinearAttentionSums::kSharedBytes},
         args.qkv.as<T>(), sums, problem);
  launch(stream, kernels::linear_attention_apply<T>,
         {.grid = grid_of(heads * token_blocks * tiles),
          .block = LinearAttentionApply::kThreads,
          .smem = LinearAttentionApply::kSharedBytes},
         args.qkv.as<T>(), sums, args.out.as<T>(), problem);
}

}  // namespace

size_t CudaBackend::workspace_bytes(const LinearAttentionArgs& args) const {
  if (args.qkv.elements() == 0) return 0;
  const kernels::LinearAttentionProblem problem = problem_of(args);
  return static_cast<size_t>(problem.frames * problem.heads * problem.chunks() * problem.sums()) *
         sizeof(float);
}

void CudaBackend::linear_attention(const LinearAttentionArgs& args) {
  if (args.qkv.elements() == 0) return;
  if (args.qkv.dtype == DType::bf16)
    launch_both<Bf16>(stream(), args, workspace<float>());
  else
    launch_both<float>(stream(), args, workspace<float>());
}

}  // namespace fsv::cuda
