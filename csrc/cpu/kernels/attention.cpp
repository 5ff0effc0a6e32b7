// Attention of a block of queries for one instruction set (attention.h). The micro-kernels of gemm_block.h
// compute a few rows of scores against a block of keys, which stay in L1 while they become probabilities in
// place and then meet the values. Scores are held in units of log2, so that the softmax needs 2^x only.
#include "cpu/kernels/attention.h"

#include <algorithm>

#include "cpu/kernels/gemm_bf16.h"

namespace fsv::cpu::FSV_ISA {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kMinusInfinity = -__builtin_inff();
/// Of queries in a task: as many as make up for reading all keys and values once, from the cache that all
/// share.
constexpr int kRowBlocks = FSV_ISA_LEVEL >= FSV_LEVEL_AMX ? 8 : FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 4 : 8;
constexpr int64_t kMaxBlockRows = kBlockRowsBf16 > kBlockRows ? kBlockRowsBf16 : kBlockRows;
constexpr int64_t kQueryRows = kRowBlocks * kMaxBlockRows;
constexpr int64_t kScoreStride =
    kKeyBlock + 16;  // floats: a line more, so that rows lie in different sets of the cache

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/// What a task keeps while it walks along the keys.
struct State {
  float* scores;  ///< [2][kMaxBlockRows][kScoreStride]; probabilities take their place
  float* out;     ///< [kQueryRows][out_stride], not yet divided
  int64_t out_stride;
  float* highest;  ///< [kQueryRows], of the scores seen
  float* total;    ///< [kQueryRows], of 2^(score - highest)
  char* queries;   ///< [kQueryRows] rows in the operand's type
  int64_t query_stride;
};

DType operand_of(DType dtype) { return dtype == DType::bf16 ? kBf16Operand : DType::f32; }

int64_t query_stride(DType dtype, int64_t head_dim) {
  return round_up(head_dim * (operand_of(dtype) == DType::bf16 ? 2 : 4), 64) + 64;
}

size_t scratch_bytes(DType dtype, int64_t head_dim) {
  const int64_t floats = 2 * kMaxBlockRows * kScoreStride + kQueryRows * round_up(head_dim, kPanelCols) +
                         2 * round_up(kQueryRows, 16);
  return static_cast<size_t>(floats * 4 + kQueryRows * query_stride(dtype, head_dim));
}

State divide_scratch(void* scratch, DType dtype, int64_t head_dim) {
  State s;
  s.scores = static_cast<float*>(scratch);
  s.out = s.scores + 2 * kMaxBlockRows * kScoreStride;
  s.out_stride = round_up(head_dim, kPanelCols);
  s.highest = s.out + kQueryRows * s.out_stride;
  s.total = s.highest + round_up(kQueryRows, 16);
  s.queries = reinterpret_cast<char*>(s.total + round_up(kQueryRows, 16));
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
    multiply_rows<MultiplyF32>(rows, count, panel, cols, to);
}

/// Probabilities 2^(score * factor - origin) where their scores were, in the type that the product with the
/// values takes. Returns their sums.
Floats exponentiate(float* row, int64_t count, Floats factor, Floats origin, bool bf16) {
  Floats sums = {};
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16
  if (bf16) {
    Floats more = {};
    uint16_t* out = reinterpret_cast<uint16_t*>(row);  // never ahead of what is read
    for (int64_t i = 0; i < count; i += 2 * kLanes) {
      const Floats a = exp2_coarse(fma(load(row + i), factor, -origin));
      const Floats b = exp2_coarse(fma(load(row + i + kLanes), factor, -origin));
      sums += a;
      more += b;
      const auto halves = _mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
      std::memcpy(out + i, &halves, sizeof halves);
    }
    return sums + more;
  }
#else
  static_cast<void>(bf16);
#endif
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats p = exp2(fma(load(row + i), factor, -origin));
    sums += p;
    store(row + i, p);
  }
  return sums;
}

/// Keys that a block's products see: pairs of vectors where they are stored as bf16, with probabilities of 0.
int64_t padded_keys(int64_t count, bool bf16) { return round_up(count, bf16 ? 2 * kLanes : kLanes); }

/// The scores of one query against `count` keys as they meet the softmax.
struct ScoreRow {
  float* at;
  int64_t count;  ///< padded
  float factor;   ///< to units of log2, above 0
  float highest;  ///< times factor, of all keys so far; -infinity where every one has a bias of -infinity
};

/// Adds the bias, fills up with keys that count for nothing, and looks for the highest.
ScoreRow look_over(const AttentionTask& task, int64_t query, int64_t key, int64_t count, float* scores,
                   float highest, bool bf16) {
  ScoreRow row{scores, padded_keys(count, bf16), task.scale * kLog2E, highest};
  if (task.bias || task.scale <= 0) {  // so that the factor is above 0
    const float* bias = task.bias ? task.bias + query * task.bias_stride + key : nullptr;
    for (int64_t i = 0; i < row.count; i += kLanes) {
      const Floats add = bias && i < count ? load_some(bias + i, count - i) * kLog2E : Floats{};
      store(scores + i, fma(load(scores + i), set(row.factor), add));
    }
    row.factor = 1;
  }
  for (int64_t i = count; i < row.count; i++) scores[i] = kMinusInfinity;
  Floats top = load(scores), other = top;
  for (int64_t i = kLanes; i + kLanes < row.count; i += 2 * kLanes) {
    top = max(load(scores + i), top);
    other = max(load(scores + i + kLanes), other);
  }
  top = max(load(scores + row.count - kLanes), top);
  row.highest = std::max(highest, largest(max(top, other)) * row.factor);
  return row;
}

/// Scores into probabilities relative to the highest score so far. Returns the factor for what was summed
/// under the old one.
float soften(const ScoreRow& row, float& highest, float& total, bool bf16) {
  const float origin = row.highest == kMinusInfinity ? 0.0f : row.highest;
  const Floats sums = exponentiate(row.at, row.count, set(row.factor), set(origin), bf16);
  const float keep = row.highest == highest ? 1.0f : exp2(set(highest - origin))[0];
  highest = row.highest;
  total = total * keep + sum(sums);
  return keep;
}

/// Queries row .. row + rows (one block of the micro-kernel) and keys key .. key + count.
struct Block {
  int64_t row = 0, rows = 0, key = 0, count = 0;
};

/// The products of a block, a panel at a time: first of keys, into `scores` ...
struct Scores {
  const AttentionTask& task;
  const State& s;
  Block block;
  float* scores;

  int64_t panels() const { return (block.count + kPanelCols - 1) / kPanelCols; }
  void multiply_panel(int64_t i) const {
    const int64_t panel_bytes = segment_bytes(task.dtype, task.head_dim), col = i * kPanelCols;
    const RowSource queries{
        s.queries + block.row * s.query_stride, {s.query_stride}, task.head_dim, 1, nullptr};
    const char* keys = static_cast<const char*>(task.keys) + (block.key + col) / kPanelCols * panel_bytes;
    multiply(task.dtype, queries, block.rows, keys, std::min(block.count - col, kPanelCols),
             {scores + col, kScoreStride});
  }
};

/// ... and then of values, with the probabilities that took the scores' place.
struct Outputs {
  const AttentionTask& task;
  const State& s;
  Block block;
  const float* probabilities;

  int64_t panels() const { return (task.head_dim + kPanelCols - 1) / kPanelCols; }
  void multiply_panel(int64_t i) const {
    const bool bf16 = operand_of(task.dtype) == DType::bf16;
    const int64_t value_row = kPanelCols * static_cast<int64_t>(size_of(task.dtype)), col = i * kPanelCols;
    const int64_t keys = bf16 ? padded_keys(block.count, bf16) : block.count;
    const RowSource rows{reinterpret_cast<const char*>(probabilities), {kScoreStride * 4}, keys, 1, nullptr};
    const char* values =
        static_cast<const char*>(task.values) + i * task.value_panel_stride + block.key * value_row;
    multiply(task.dtype, rows, block.rows, values, std::min(task.head_dim - col, kPanelCols),
             {s.out + block.row * s.out_stride + col, s.out_stride, true});
  }
};

/// What was summed so far under the highest scores of before.
void rescale(const State& s, const Block& block, const float* keep) {
  for (int64_t r = 0; r < block.rows; r++) {
    float* out = s.out + (block.row + r) * s.out_stride;
    if (keep[r] != 1.0f)
      for (int64_t c = 0; c < s.out_stride; c += kLanes) store(out + c, load(out + c) * keep[r]);
  }
}

void write_out(const AttentionTask& task, const State& s) {
  for (int64_t r = 0; r < task.rows; r++) {
    char* to = static_cast<char*>(task.out) + r * task.out_stride;
    const Floats share = set(s.total[r] == 0.0f ? 0.0f : 1.0f / s.total[r]);
    for (int64_t c = 0; c < task.head_dim; c += kLanes) {
      const Floats y = load(s.out + r * s.out_stride + c) * share;
      if (task.dtype == DType::f32)
        store_some(reinterpret_cast<float*>(to) + c, y, task.head_dim - c);
      else
        store_bf16_some(reinterpret_cast<uint16_t*>(to) + c, y, task.head_dim - c);
    }
  }
}

void attend(const AttentionTask& task) {
  const State s = divide_scratch(task.scratch, task.dtype, task.head_dim);
  copy_queries(task, s);
  for (int64_t i = 0; i < task.rows * s.out_stride; i++) s.out[i] = 0;
  for (int64_t r = 0; r < task.rows; r++) {
    s.highest[r] = kMinusInfinity;
    s.total[r] = 0;
  }
  const bool bf16 = operand_of(task.dtype) == DType::bf16;
  const int64_t block_rows = task.dtype == DType::bf16 ? kBlockRowsBf16 : kBlockRows;
  const int64_t row_blocks = (task.rows + block_rows - 1) / block_rows;
  const int64_t blocks = (task.key_count + kKeyBlock - 1) / kKeyBlock * row_blocks;
  const auto block_at = [&](int64_t n) {
    const int64_t i = n % row_blocks, key = n / row_blocks * kKeyBlock, row = task.rows * i / row_blocks;
    return Block{row, task.rows * (i + 1) / row_blocks - row, key, std::min(task.key_count - key, kKeyBlock)};
  };
  const auto scores_at = [&](int64_t n) { return s.scores + n % 2 * kMaxBlockRows * kScoreStride; };
  float keep[2][kMaxBlockRows];

  if (task.dtype == DType::bf16) begin_bf16();
  for (int64_t n = -1; n <= blocks; n++) {
    const Scores next{task, s, n + 1 < blocks ? block_at(n + 1) : Block{}, scores_at(n + 1)};
    const Outputs last{task, s, n > 0 ? block_at(n - 1) : Block{}, scores_at(n + 1)};
    const int64_t outputs = n > 0 ? last.panels() : 0, panels = outputs + next.panels();
    if (n > 0) rescale(s, last.block, keep[(n + 1) % 2]);
    int64_t done = 0;
    const auto multiply_until = [&](int64_t end) {
      for (; done < end; done++)
        done < outputs ? last.multiply_panel(done) : next.multiply_panel(done - outputs);
    };
    const Block block = n >= 0 && n < blocks ? block_at(n) : Block{};
    const auto row_at = [&](int64_t r) {
      return look_over(task, block.row + r, block.key, block.count, scores_at(n) + r * kScoreStride,
                       s.highest[block.row + r], bf16);
    };
    ScoreRow row = block.rows > 0 ? row_at(0) : ScoreRow{};
    for (int64_t r = 0; r < block.rows; r++) {
      multiply_until(panels * r / block.rows);
      const ScoreRow ahead =
          r + 1 < block.rows ? row_at(r + 1) : row;  // its highest is there when it is wanted
      keep[n % 2][r] = soften(row, s.highest[block.row + r], s.total[block.row + r], bf16);
      row = ahead;
    }
    multiply_until(panels);
  }
  if (task.dtype == DType::bf16) end_bf16();
  write_out(task, s);
}

/// At most a panel's columns; a whole panel without a call.
inline void copy_halves(const char* from, int64_t cols, uint16_t* to) {
  if (cols == kPanelCols)
    std::memcpy(to, from, kPanelCols * 2);
  else
    std::memcpy(to, from, static_cast<size_t>(cols) * 2);
}

void pack_values(const PackValuesTask& task) {
  const bool f32 = task.dtype == DType::f32;
  const int64_t padded = f32 ? task.count : round_up(task.count, 32);
  for (int64_t col = 0; col < task.head_dim; col += kPanelCols) {
    const int64_t cols = task.head_dim - col < kPanelCols ? task.head_dim - col : kPanelCols;
    char* panel = static_cast<char*>(task.panels) + col / kPanelCols * task.panel_stride;
    const auto source = [&](int64_t key) {
      return static_cast<const char*>(task.values) + (task.first + key) * task.row_stride +
             col * static_cast<int64_t>(size_of(task.dtype));
    };
    if (f32) {
      float* to = reinterpret_cast<float*>(panel) + task.first * kPanelCols;
      for (int64_t key = 0; key < padded; key++, to += kPanelCols) {
        std::memset(to, 0, kPanelCols * sizeof(float));
        std::memcpy(to, source(key), static_cast<size_t>(cols) * sizeof(float));
      }
      continue;
    }
    uint16_t* to = reinterpret_cast<uint16_t*>(panel) + task.first * kPanelCols;
    for (int64_t key = 0; key < padded; key += 2, to += 2 * kPanelCols) {
      uint16_t even[kPanelCols] = {}, odd[kPanelCols] = {};
      if (key < task.count) copy_halves(source(key), cols, even);
      if (key + 1 < task.count) copy_halves(source(key + 1), cols, odd);
      uint32_t words[kPanelCols];
      for (int64_t c = 0; c < kPanelCols; c++) words[c] = even[c] | uint32_t{odd[c]} << 16;
      std::memcpy(to, words, sizeof words);
    }
  }
}

}  // namespace

extern const AttentionKernels attention_kernels;
const AttentionKernels attention_kernels = {kQueryRows, scratch_bytes, pack_values, attend};

}  // namespace fsv::cpu::FSV_ISA
