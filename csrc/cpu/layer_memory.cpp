// Scheduling of layer memory: ranges of tokens.
#include <algorithm>

#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {

void CpuBackend::layer_memory(const LayerMemoryArgs& args) {
  if (args.dtype == DType::f8e4m3) return then_quantize(&CpuBackend::layer_memory, args);
  const Shape& shape = args.out.shape;
  const void* states[kMaxStates];
  for (int i = 0; i < args.count; i++) states[i] = args.states[i].data;
  LayerMemoryTask task = {};
  task.states = states;
  task.count = args.count;
  task.dtype = args.out.dtype;
  task.router_input = args.router_input.data;
  task.router = args.router.data;
  task.router_bias = args.router_bias.as<float>();
  task.scale = args.scale.as<float>();
  task.shift = args.shift.as<float>();
  task.weights = args.weights.as<float>();
  task.out = args.out.data;
  task.tokens_a_sample = shape[1];
  task.channels = shape[2];
  task.pre_mix = args.pre_mix;
  task.eps = args.eps;

  const int64_t token_bytes = args.count * task.channels * static_cast<int64_t>(size_of(task.dtype));
  const int64_t grain = std::max<int64_t>(2 * kMemoryTokens, rows_a_range(token_bytes));
  const size_t bytes = sizeof(float) * static_cast<size_t>(kMemoryTokens * task.channels);
  pool_.parallel_for(shape[0] * shape[1], grain, [&](int64_t begin, int64_t end, int worker) {
    LayerMemoryTask mine = task;
    mine.rows = static_cast<float*>(pool_.scratch(worker, bytes));
    kernels_.rows->layer_memory(mine, begin, end);
  });
}

}  // namespace fsv::cpu
