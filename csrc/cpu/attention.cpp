// softmax(q k^T * scale + bias) v on the CPU: heads in groups whose packed keys and values the L3 cache
// holds, each group packed by all workers and then attended to by all workers, query block by query block, so
// that one head alone keeps everybody busy.
#include <algorithm>

#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

constexpr int64_t kGroupBytes = 8 << 20;
constexpr int64_t kItemsPerWorker = 8;

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

}  // namespace

void CpuBackend::attention(const AttentionArgs& args) {
  const Shape& shape = args.q.shape;
  const int64_t batch = shape[0], nq = shape[1], heads = shape[2], dim = shape[3], nk = args.k.shape[1];
  if (shape.elements() == 0) return;
  const AttentionKernels& attention = *kernels_.attention;
  const DType dtype = args.q.dtype;
  const int64_t element = static_cast<int64_t>(size_of(dtype)), token = heads * dim * element;
  const int64_t key_panel = segment_bytes(dtype, dim), value_panel = segment_bytes(dtype, nk);
  const int64_t key_bytes = panel_count(nk) * key_panel,
                head_bytes = key_bytes + panel_count(dim) * value_panel;
  const int64_t query_blocks = ceil_div(nq, attention.row_block), key_blocks = ceil_div(nk, kKeyBlock);
  const int64_t group =
      std::min(batch * heads, std::max(kGroupBytes / std::max<int64_t>(head_bytes, 1),
                                       ceil_div(kItemsPerWorker * pool_.size(), query_blocks)));

  // Every worker's own scratch; behind that of worker 0 the packed heads, which all of them read.
  const size_t own = (attention.scratch_bytes(dtype, dim) + 63) / 64 * 64;
  for (int worker = 1; worker < pool_.size(); worker++) pool_.scratch(worker, own);
  char* const first = static_cast<char*>(pool_.scratch(0, own + static_cast<size_t>(group * head_bytes)));
  char* const packed = first + own;

  const auto keys_of = [&](int64_t head) {
    return args.key_lengths ? std::clamp<int64_t>(args.key_lengths.as<int32_t>()[head / heads], 0, nk) : nk;
  };
  const auto at = [&](const TensorView& view, int64_t head, int64_t position) {
    return view.as<char>() + (head / heads * view.shape[1] + position) * token + head % heads * dim * element;
  };

  const int64_t flops = 4 * batch * heads * nq * nk * dim;
  for (int64_t begin = 0; begin < batch * heads; begin += group) {
    const int64_t count = std::min(group, batch * heads - begin);
    pool_.parallel_for(
        count * key_blocks, items_a_range(count * key_blocks, flops), [&](int64_t from, int64_t to, int) {
          for (int64_t item = from; item < to; item++) {
            const int64_t slot = item / key_blocks, key = item % key_blocks * kKeyBlock, head = begin + slot;
            const int64_t keys = std::min(kKeyBlock, keys_of(head) - key);
            if (keys <= 0) continue;
            char* const panels = packed + slot * head_bytes;
            kernels_.gemm->pack({at(args.k, head, key), dtype, heads * dim, nullptr, keys, dim,
                                 panels + key / kPanelCols * key_panel, key_panel});
            attention.pack_values(
                {dtype, at(args.v, head, 0), token, key, keys, dim, panels + key_bytes, value_panel});
          }
        });
    pool_.parallel_for(count * query_blocks, items_a_range(count * query_blocks, flops),
                       [&](int64_t from, int64_t to, int worker) {
                         for (int64_t item = from; item < to; item++) {
                           const int64_t slot = item / query_blocks,
                                         row = item % query_blocks * attention.row_block, head = begin + slot;
                           char* const panels = packed + slot * head_bytes;
                           AttentionTask task;
                           task.dtype = dtype;
                           task.q = at(args.q, head, row);
                           task.q_stride = token;
                           task.keys = panels;
                           task.values = panels + key_bytes;
                           task.value_panel_stride = value_panel;
                           task.rows = std::min(attention.row_block, nq - row);
                           task.key_count = keys_of(head);
                           task.head_dim = dim;
                           task.bias =
                               args.bias ? args.bias.as<float>() + (head % heads * nq + row) * nk : nullptr;
                           task.bias_stride = nk;
                           task.scale = args.scale;
                           task.out = at(args.out, head, row);
                           task.out_stride = token;
                           task.scratch = worker == 0 ? first : pool_.scratch(worker, own);
                           attention.attend(task);
                         }
                       });
  }
}

}  // namespace fsv::cpu
