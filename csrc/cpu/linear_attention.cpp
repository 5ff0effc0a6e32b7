// linear_attention on the CPU: every head of every frame is a task of its own.
#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {

void CpuBackend::linear_attention(const LinearAttentionArgs& args) {
  if (args.out.elements() == 0) return;
  const Shape& x = args.qkv.shape;
  const int64_t d = args.head_dim, channels = x[-1], heads = channels / (3 * d), tokens = x[-2];
  const int64_t element = static_cast<int64_t>(size_of(args.qkv.dtype));
  const size_t bytes = static_cast<size_t>(linear_attention_scratch(d)) * sizeof(float);
  for (int w = 0; w < pool_.size(); w++) pool_.scratch(w, bytes);
  const int64_t items = x.elements(0, x.rank - 2) * heads;
  const int64_t grain = items_a_range(items, 4 * items * tokens * d * (d + 1));
  pool_.parallel_for(items, grain, [&](int64_t begin, int64_t end, int worker) {
    LinearAttentionTask task;
    task.dtype = args.qkv.dtype;
    task.tokens = tokens;
    task.head_dim = d;
    task.token_stride = channels;
    task.out_stride = channels / 3;
    task.eps = args.eps;
    task.scratch = static_cast<float*>(pool_.scratch(worker, bytes));
    for (int64_t i = begin; i < end; i++) {
      const int64_t frame = i / heads, head = i % heads;
      task.qkv = args.qkv.as<char>() + (frame * tokens * channels + head * 3 * d) * element;
      task.out = args.out.as<char>() + (frame * tokens * channels / 3 + head * d) * element;
      kernels_.conv->linear_attention(task);
    }
  });
}

}  // namespace fsv::cpu
