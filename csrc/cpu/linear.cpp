// y = residual + gate * act(x W^T + bias): cuts the result into rectangles for the thread pool and calls the
// matrix kernel on each. Caches decide the rectangles: a group of panels of W that L3 holds while all rows
// pass it, and within it chunks of rows that stay in L2 while the group's panels pass them. A long k goes in
// parts where the kernel asks for it, so that chunks have rows enough for what their panels cost to read.
#include <algorithm>

#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

constexpr int64_t kRowsBytes = 448 << 10;  // rows of x in L2, beside one panel
constexpr int64_t kGroupBytes = 8 << 20;   // packed panels in L3
constexpr int64_t kPartRowsBytes =
    896 << 10;                       // where k goes in parts: rows of x in L2, beside a part of a panel ...
constexpr int64_t kPartPanels = 16;  // ... and the sums of so many panels
constexpr int64_t kScratchBytes = 1 << 20;  // panels packed on the fly, in a worker's scratch
constexpr int64_t kItemsPerWorker = 4;  // rectangles each worker should find, so that all end about together

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

/// Elements of k that are multiplied at a time.
int64_t part_of(int64_t k, int64_t most) {
  if (most == 0 || 2 * k < 3 * most) return k;
  return round_up(ceil_div(k, ceil_div(k, most)), 32);
}

/// How [rows, panels] is cut.
struct Cut {
  int64_t rows;        // of one work item
  int64_t panels;      // of one work item
  int64_t chunk_rows;  // handed to the kernel at a time
};

Cut choose_cut(int64_t rows, int64_t panels, int64_t row_bytes, int64_t panel_bytes, bool plain, bool parts,
               int64_t block, int workers) {
  Cut cut;
  const int64_t rows_bytes = parts ? kPartRowsBytes : kRowsBytes;
  cut.chunk_rows = std::max(block, rows_bytes / std::max<int64_t>(row_bytes, 1) / block * block);
  cut.chunk_rows = std::min({cut.chunk_rows, 16 * block, round_up(rows, block)});
  cut.panels = std::clamp<int64_t>((plain ? kScratchBytes : kGroupBytes) / std::max<int64_t>(panel_bytes, 1),
                                   1, parts ? std::min(kPartPanels, panels) : panels);
  // Packed weights: one chunk of rows an item. Plain ones are packed by every item that meets them, so items
  // are tall.
  cut.rows = plain ? round_up(rows, cut.chunk_rows) : cut.chunk_rows;
  const int64_t wanted = workers == 1 ? 1 : workers * kItemsPerWorker;
  const auto items = [&] { return ceil_div(rows, cut.rows) * ceil_div(panels, cut.panels); };
  while (items() < wanted && cut.panels > 4) cut.panels = ceil_div(cut.panels, 2);
  while (items() < wanted && cut.rows > cut.chunk_rows) cut.rows = round_up(cut.rows / 2, cut.chunk_rows);
  while (items() < wanted && cut.panels > 1) cut.panels = ceil_div(cut.panels, 2);
  while (items() < wanted && cut.rows > block) cut.rows = round_up(cut.rows / 2, block);
  cut.chunk_rows = std::min(cut.chunk_rows, cut.rows);
  return cut;
}

}  // namespace

void CpuBackend::linear(const LinearArgs& args) {
  if (args.dtype == DType::f8e4m3) return then_quantize(&CpuBackend::linear, args);
  const int64_t n = args.weight.shape[0], k = args.weight.shape[1];
  const int64_t rows = args.x.shape.elements(0, args.x.shape.rank - 1);
  if (rows == 0 || n == 0) return;
  const GemmKernels& gemm = *kernels_.gemm;
  const bool bf16 = args.x.dtype != DType::f32;  // what fp8 becomes
  const bool plain = args.weight.layout == Layout::plain;
  const DType operand = bf16 ? gemm.bf16_operand : DType::f32;
  const int64_t block = bf16 ? gemm.row_block_bf16 : gemm.row_block_f32;
  const int64_t x_row = k * static_cast<int64_t>(size_of(args.x.dtype));
  const int64_t weight_row = k * static_cast<int64_t>(size_of(args.weight.dtype));
  const int64_t groups = args.x_scale ? scale_groups(args.x_scale, args.x) : 0;
  const int64_t out_size = static_cast<int64_t>(size_of(args.dtype));
  // Rows that are whole or half pages apart would all want the same few lines of L1: they are copied to where
  // they lie an odd number of lines apart. So are rows that must be widened.
  const bool copied = operand != args.x.dtype || x_row % 2048 == 0;
  // fp8 with a scale for every group of k is copied whole: its parts would not begin with a group.
  const int64_t part = bf16 && !plain && groups == 0 ? part_of(k, gemm.k_part_bf16) : k;
  const int64_t copied_row = round_up(part * static_cast<int64_t>(size_of(operand)), 128) + 64;
  const int64_t panel_bytes = segment_bytes(args.x.dtype, k);
  const int64_t panels = panel_count(n);
  const Cut cut = choose_cut(rows, panels, copied_row, panel_bytes, plain, part < k, block, pool_.size());
  const int64_t row_items = ceil_div(rows, cut.rows);
  const size_t copy_bytes = copied ? static_cast<size_t>(cut.chunk_rows * copied_row) : 0;
  const size_t plain_bytes = plain ? static_cast<size_t>(cut.panels * panel_bytes) : 0;
  const size_t partial_bytes =
      part < k ? static_cast<size_t>(cut.panels * cut.chunk_rows * kPanelCols * 4) : 0;
  const size_t scratch_bytes = copy_bytes + plain_bytes + partial_bytes;
  for (int worker = 0; worker < pool_.size(); worker++) pool_.scratch(worker, scratch_bytes);

  const auto rectangle = [&](int64_t item, int worker) {
    const int64_t panel = item / row_items * cut.panels, col = panel * kPanelCols;
    const int64_t cols = std::min(cut.panels * kPanelCols, n - col);
    const int64_t row_begin = item % row_items * cut.rows, row_end = std::min(row_begin + cut.rows, rows);
    char* const copy = static_cast<char*>(pool_.scratch(worker, scratch_bytes));

    GemmTask task;
    task.cols = cols;
    task.panel_stride = panel_bytes;
    if (part < k) task.partial = reinterpret_cast<float*>(copy + copy_bytes + plain_bytes);
    if (plain) {
      task.panels = copy + copy_bytes;
      gemm.pack({args.weight.as<char>() + col * weight_row, args.weight.dtype, k,
                 args.weight_scale ? args.weight_scale.as<float>() + col : nullptr, cols, k,
                 copy + copy_bytes, panel_bytes});
    } else {
      task.panels = args.weight.as<char>() + panel * panel_bytes;
    }
    Epilogue& e = task.epilogue;
    e.bias = args.bias ? args.bias.as<float>() + col : nullptr;
    e.activation = args.activation;
    e.out_stride = n;
    e.out_dtype = args.dtype;
    const bool gate_of_sample = args.gate && args.gate.shape.elements() != rows * n;
    for (int64_t row = row_begin; row < row_end; row += cut.chunk_rows) {
      task.rows = std::min(cut.chunk_rows, row_end - row);
      const int64_t at = (row * n + col) * out_size;
      e.out = args.out.as<char>() + at;
      e.residual = args.residual ? args.residual.as<char>() + at : nullptr;
      if (args.gate) {
        e.gate = args.gate.as<char>() + col * static_cast<int64_t>(size_of(args.gate.dtype));
        e.gate_dtype = args.gate.dtype;
        e.gate_stride = n;
        e.gate_row = row;
        e.gate_rows = gate_of_sample ? rows / args.x.shape[0] : 1;
      }
      const char* const panels = static_cast<const char*>(task.panels);
      for (int64_t first = 0, end = std::max<int64_t>(k, 1); first < end;
           first += std::max<int64_t>(part, 1)) {
        const char* const x =
            args.x.as<char>() + row * x_row + first * static_cast<int64_t>(size_of(args.x.dtype));
        task.k = std::min(part, k - first);
        task.begins = first == 0;
        task.ends = first + task.k == k;
        task.panels =
            panels + first * kPanelCols * static_cast<int64_t>(size_of(bf16 ? DType::bf16 : DType::f32));
        task.a = x;
        task.row_stride = x_row;
        if (copied) {
          const float* scales =
              args.x_scale ? args.x_scale.as<float>() + row * std::max<int64_t>(groups, 1) : nullptr;
          gemm.copy_rows(
              {x, args.x.dtype, operand, scales, groups, x_row, copied_row, task.rows, task.k, copy});
          task.a = copy;
          task.row_stride = copied_row;
        }
        (bf16 ? gemm.multiply_bf16 : gemm.multiply_f32)(task);
      }
      task.panels = panels;
    }
  };
  const int64_t items = panels == 0 ? 0 : row_items * ceil_div(panels, cut.panels);
  pool_.parallel_for(items, items_a_range(items, 2 * rows * n * k),
                     [&](int64_t begin, int64_t end, int worker) {
                       for (int64_t item = begin; item < end; item++) rectangle(item, worker);
                     });
}

}  // namespace fsv::cpu
