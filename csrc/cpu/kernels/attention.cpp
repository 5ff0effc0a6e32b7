// Attention of a block of queries for one instruction set (attention.h). The micro-kernels of gemm_block.h
// compute a few rows of scores against a step of keys, the softmax (attention_softmax.h) makes shares of
// them, and a block of keys' shares meet the values.
#include "cpu/kernels/attention.h"

#include <algorithm>

#include "cpu/kernels/attention_softmax.h"

namespace fsv::cpu::FSV_ISA {
namespace {

int64_t query_stride(DType dtype, int64_t head_dim) {
  return round_up(head_dim * static_cast<int64_t>(size_of(operand_of(dtype))), 64) + 64;
}

/// Floats of each part of the scratch, multiples of 16.
struct Sizes {
  int64_t scores, shares, out, origin, total;

  explicit Sizes(int64_t head_dim)
      : scores(kMaxBlockRows * kScoreStride),
        shares(kMaxBlockRows * kShareStride),
        out(kQueryRows * round_up(head_dim, kPanelCols)),
        origin(round_up(kQueryRows, 16)),
        total(round_up(kQueryRows * kLanes, 16)) {}
};

size_t scratch_bytes(DType dtype, int64_t head_dim) {
  const Sizes n(head_dim);
  const int64_t floats = n.scores + n.shares + n.out + n.origin + n.total;
  return static_cast<size_t>(floats * 4 + kQueryRows * query_stride(dtype, head_dim));
}

State divide_scratch(void* scratch, DType dtype, int64_t head_dim) {
  const Sizes n(head_dim);
  State s;
  s.scores = static_cast<float*>(scratch);
  s.shares = s.scores + n.scores;
  s.out = s.shares + n.shares;
  s.out_stride = round_up(head_dim, kPanelCols);
  s.origin = s.out + n.out;
  s.total = reinterpret_cast<Floats*>(s.origin + n.origin);
  s.queries = reinterpret_cast<char*>(s.origin + n.origin + n.total);
  s.query_stride = query_stride(dtype, head_dim);
  return s;
}

void copy_queries(const AttentionTask& task, const State& s) {
  const char* from = static_cast<const char*>(task.q);
  char* to = s.queries;
  for (int64_t r = 0; r < task.rows; r++, from += task.q_stride, to += s.query_stride) {
    if (operand_of(task.dtype) == task.dtype) {
      std::memcpy(to, from, static_cast<size_t>(task.head_dim) * size_of(task.dtype));
      continue;
    }
    for (int64_t i = 0; i < task.head_dim; i += kLanes)
      store_some(reinterpret_cast<float*>(to) + i,
                 load_bf16_some(reinterpret_cast<const uint16_t*>(from) + i, task.head_dim - i),
                 task.head_dim - i);
  }
}

void multiply(DType dtype, const RowSource& rows, int64_t count, const char* panel, int64_t cols,
              const Target& to) {
  if (dtype == DType::bf16)
    multiply_rows_bf16(rows, count, panel, cols, to);
  else
    multiply_rows_f32(rows, count, panel, cols, to);
}

/// Scores of a step's keys, `first` on of the block's.
void multiply_keys(const AttentionTask& task, const State& s, const Block& block, int64_t first) {
  const int64_t panel_bytes = segment_bytes(task.dtype, task.head_dim);
  const int64_t end = std::min(block.count, first + kStepKeys);
  const RowSource queries{.base = s.queries + block.row * s.query_stride,
                          .steps = {s.query_stride},
                          .k = task.head_dim,
                          .segments = 1,
                          .streamed = true};
  for (int64_t key = first; key < end; key += kPanelCols) {
    const char* keys = static_cast<const char*>(task.keys) + (block.key + key) / kPanelCols * panel_bytes;
    multiply(task.dtype, queries, block.rows, keys, std::min(end - key, kPanelCols),
             {s.scores + key - first, kScoreStride});
  }
}

/// Adds the block's shares times values to what is there.
void multiply_values(const AttentionTask& task, const State& s, const Block& block) {
  const DType operand = operand_of(task.dtype);
  const int64_t value_row = kPanelCols * static_cast<int64_t>(size_of(task.dtype));
  const int64_t keys = operand == DType::bf16 ? padded_keys(block.count, operand) : block.count;
  const RowSource shares{.base = reinterpret_cast<const char*>(s.shares),
                         .steps = {kShareStride * 4},
                         .k = keys,
                         .segments = 1,
                         .streamed = true};
  const char* values = static_cast<const char*>(task.values) + block.key * value_row;
  for (int64_t col = 0; col < task.head_dim; col += kPanelCols, values += task.value_panel_stride)
    multiply(task.dtype, shares, block.rows, values, std::min(task.head_dim - col, kPanelCols),
             {s.out + block.row * s.out_stride + col, s.out_stride, true});
}

void write_out(const AttentionTask& task, const State& s) {
  for (int64_t r = 0; r < task.rows; r++) {
    char* to = static_cast<char*>(task.out) + r * task.out_stride;
    const float total = sum(s.total[r]);
    const Floats share = set(total == 0.0f ? 0.0f : 1.0f / total);
    for (int64_t c = 0; c < task.head_dim; c += kLanes) {
      const Floats y = load(s.out + r * s.out_stride + c) * share;
      if (task.dtype == DType::f32)
        store_some(reinterpret_cast<float*>(to) + c, y, task.head_dim - c);
      else
        store_bf16_some(reinterpret_cast<uint16_t*>(to) + c, y, task.head_dim - c);
    }
  }
}

/// The blocks of a task. A span of keys and values stays in L2 while all queries pass it; a block of queries
/// with its sums stays in L1 while it passes the span's blocks of keys. No divisions, for whose results the
/// multipliers would wait.
struct Walk {
  const AttentionTask& task;
  int64_t height;  ///< of a block

  Block first() const { return at(0, 0, 0); }
  Block after(const Block& block) const {
    const int64_t key = block.key + kKeyBlock, row = block.row + block.rows;
    if (key < std::min(block.span + kKeySpan, task.key_count)) return at(block.row, key, block.span);
    if (row < task.rows) return at(row, block.span, block.span);
    return at(0, block.span + kKeySpan, block.span + kKeySpan);
  }
  /// No rows behind the last key.
  Block at(int64_t row, int64_t key, int64_t span) const {
    if (key >= task.key_count) return {};
    return {row, std::min(height, task.rows - row), key, std::min(task.key_count - key, kKeyBlock), span};
  }
};

Walk walk(const AttentionTask& task) {
  const int64_t most = task.dtype == DType::bf16 ? kBlockRowsBf16 : kBlockRows;
  const int64_t blocks = (task.rows + most - 1) / most;
  return {task, blocks > 0 ? (task.rows + blocks - 1) / blocks : 0};
}

void attend(const AttentionTask& task) {
  const State s = divide_scratch(task.scratch, task.dtype, task.head_dim);
  copy_queries(task, s);
  std::fill_n(s.out, task.rows * s.out_stride, 0.0f);
  std::fill_n(s.origin, task.rows, kMinusInfinity);
  std::fill_n(s.total, task.rows, Floats{});

  if (task.dtype == DType::bf16) begin_bf16();
  const Walk blocks = walk(task);
  // One after the other: the machine overlaps neither products nor softmax with more than what is next to
  // them, and two steps' scores would leave L1 before they are read.
  for (Block block = blocks.first(); block.rows > 0; block = blocks.after(block)) {
    for (int64_t first = 0; first < block.count; first += kStepKeys) {
      multiply_keys(task, s, block, first);
      Softmax{task, s, block, first}.run();
    }
    multiply_values(task, s, block);
  }
  if (task.dtype == DType::bf16) end_bf16();
  write_out(task, s);
}

/// A row's columns from `col` on as floats' bits or bf16, zeros beyond the end.
template <class T>
void read_panel_row(const char* row, int64_t col, int64_t head_dim, T (&to)[kPanelCols]) {
  const char* from = row + col * static_cast<int64_t>(sizeof(T));
  const int64_t cols = head_dim - col;
  if (cols >= kPanelCols) {
    std::memcpy(to, from, sizeof to);
  } else {
    std::memset(to, 0, sizeof to);
    std::memcpy(to, from, static_cast<size_t>(cols) * sizeof(T));
  }
}

/// Row after row, since rows are far apart and panels are written one after the other in any case.
void pack_values(const PackValuesTask& task) {
  const auto row = [&](int64_t key) {
    return static_cast<const char*>(task.values) + (task.first + key) * task.row_stride;
  };
  const bool f32 = task.dtype == DType::f32;
  const int64_t depth = f32 ? 1 : 2, padded = f32 ? task.count : round_up(task.count, 32);
  for (int64_t key = 0; key < padded; key += depth) {
    char* to = static_cast<char*>(task.panels) + (task.first + key) / depth * kPanelCols * 4;
    for (int64_t col = 0; col < task.head_dim; col += kPanelCols, to += task.panel_stride) {
      uint32_t words[kPanelCols] = {};
      if (f32) {
        read_panel_row(row(key), col, task.head_dim, words);
      } else if (key < task.count) {
        uint16_t even[kPanelCols], odd[kPanelCols] = {};
        read_panel_row(row(key), col, task.head_dim, even);
        if (key + 1 < task.count) read_panel_row(row(key + 1), col, task.head_dim, odd);
        for (int64_t c = 0; c < kPanelCols; c++) words[c] = even[c] | uint32_t{odd[c]} << 16;
      }
      std::memcpy(to, words, sizeof words);
    }
  }
}

}  // namespace

extern const AttentionKernels attention_kernels;
const AttentionKernels attention_kernels = {kQueryRows, scratch_bytes, pack_values, attend};

}  // namespace fsv::cpu::FSV_ISA
