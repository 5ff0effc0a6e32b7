// Attention of a block of queries for one instruction set (attention.h). The micro-kernels of gemm_block.h
// compute a few rows of scores against a block of keys, which stay in L1 while they become probabilities in
// place and then meet the values. Scores are held in units of log2, so that the softmax needs 2^x only.
#include "cpu/kernels/attention.h"

#include "cpu/kernels/gemm_block.h"

namespace fsv::cpu::FSV_ISA {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kMinusInfinity = -__builtin_inff();
constexpr int kRowBlocks = FSV_ISA_LEVEL >= FSV_LEVEL_AMX ? 2 : FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 4 : 8;
constexpr int64_t kMaxBlockRows = kBlockRowsBf16 > kBlockRows ? kBlockRowsBf16 : kBlockRows;
constexpr int64_t kQueryRows = kRowBlocks * kMaxBlockRows;
constexpr int64_t kScoreStride =
    kKeyBlock + 16;  // floats: a line more, so that rows lie in different sets of the cache

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/// What a task keeps while it walks along the keys.
struct State {
  float* scores;  ///< [kMaxBlockRows][kScoreStride]; probabilities take their place
  float* fresh;   ///< [kMaxBlockRows][kPanelCols]: one block's share of the output
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
  const int64_t floats = kMaxBlockRows * (kScoreStride + kPanelCols) +
                         kQueryRows * round_up(head_dim, kPanelCols) + 2 * round_up(kQueryRows, 16);
  return static_cast<size_t>(floats * 4 + kQueryRows * query_stride(dtype, head_dim));
}

State divide_scratch(void* scratch, DType dtype, int64_t head_dim) {
  State s;
  s.scores = static_cast<float*>(scratch);
  s.fresh = s.scores + kMaxBlockRows * kScoreStride;
  s.out = s.fresh + kMaxBlockRows * kPanelCols;
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

void multiply(DType dtype, const RowSource& rows, int64_t count, const char* panel, int64_t cols, float* c,
              int64_t c_stride) {
  if (dtype == DType::bf16)
    multiply_rows_bf16(rows, count, panel, cols, {c, c_stride});
  else
    multiply_rows<MultiplyF32>(rows, count, panel, cols, {c, c_stride});
}

/// `n` probabilities where their scores were, in the type that the product with the values takes.
inline void store_probabilities(float* row, int64_t at, Floats p, bool bf16) {
#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16
  if (bf16) {
    const __m256bh halves = _mm512_cvtneps_pbh((__m512)p);
    std::memcpy(reinterpret_cast<uint16_t*>(row) + at, &halves, sizeof halves);
    return;
  }
#else
  static_cast<void>(bf16);
#endif
  store(row + at, p);
}

/// Scores of one query against `count` keys into probabilities relative to the highest score so far. Returns
/// the factor for what was summed under the old one.
float soften(float* row, int64_t count, const float* bias, float scale, float& highest, float& total,
             bool bf16) {
  const int64_t whole = round_up(count, kLanes);
  for (int64_t i = count; i < whole; i++) row[i] = kMinusInfinity;
  Floats factor = set(scale * kLog2E);
  if (bias) {
    for (int64_t i = 0; i < whole; i += kLanes)
      store(row + i, fma(load(row + i), factor, load_some(bias + i, count - i) * kLog2E));
    for (int64_t i = count; i < whole; i++) row[i] = kMinusInfinity;
    factor = set(1.0f);
  }
  Floats top = set(highest);
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Floats score = load(row + i) * factor;
    top = max(score, top);
  }
  const float new_highest = largest(top);
  const float origin =
      new_highest == kMinusInfinity ? 0.0f : new_highest;  // every key so far has a bias of -infinity
  Floats sums = {};
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Floats p = exp2(fma(load(row + i), factor, set(-origin)));
    sums += p;
    store_probabilities(row, i, p, bf16);
  }
  const float keep = exp2(set(highest - origin))[0];
  highest = new_highest;
  total = total * keep + sum(sums);
  return keep;
}

/// Rows row .. row + rows (one micro-kernel block) against keys key .. key + count.
void attend_block(const AttentionTask& task, const State& s, int64_t row, int64_t rows, int64_t key,
                  int64_t count) {
  const bool bf16 = operand_of(task.dtype) == DType::bf16;
  const int64_t panel_bytes = segment_bytes(task.dtype, task.head_dim);
  const RowSource queries{s.queries + row * s.query_stride, {s.query_stride}, task.head_dim, 1, nullptr};
  const char* keys = static_cast<const char*>(task.keys) + key / kPanelCols * panel_bytes;
  for (int64_t i = 0; i < count; i += kPanelCols, keys += panel_bytes)
    multiply(task.dtype, queries, rows, keys, count - i < kPanelCols ? count - i : kPanelCols, s.scores + i,
             kScoreStride);

  float keep[kMaxBlockRows];
  for (int64_t r = 0; r < rows; r++)
    keep[r] = soften(s.scores + r * kScoreStride, count,
                     task.bias ? task.bias + (row + r) * task.bias_stride + key : nullptr, task.scale,
                     s.highest[row + r], s.total[row + r], bf16);

  const RowSource probabilities{
      reinterpret_cast<const char*>(s.scores), {kScoreStride * 4}, count, 1, nullptr};
  const int64_t value_row = kPanelCols * static_cast<int64_t>(size_of(task.dtype));
  const char* values = static_cast<const char*>(task.values) + key * value_row;
  for (int64_t col = 0; col < task.head_dim; col += kPanelCols, values += task.value_panel_stride) {
    const int64_t cols = task.head_dim - col < kPanelCols ? task.head_dim - col : kPanelCols;
    multiply(task.dtype, probabilities, rows, values, cols, s.fresh, kPanelCols);
    for (int64_t r = 0; r < rows; r++) {
      float* out = s.out + (row + r) * s.out_stride + col;
      for (int64_t c = 0; c < cols; c += kLanes)
        store(out + c, fma(load(out + c), set(keep[r]), load(s.fresh + r * kPanelCols + c)));
    }
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
  const int64_t block_rows = task.dtype == DType::bf16 ? kBlockRowsBf16 : kBlockRows;
  const int64_t blocks = (task.rows + block_rows - 1) / block_rows;
  if (task.dtype == DType::bf16) begin_bf16();
  for (int64_t key = 0; key < task.key_count; key += kKeyBlock) {
    const int64_t count = task.key_count - key < kKeyBlock ? task.key_count - key : kKeyBlock;
    for (int64_t i = 0; i < blocks; i++) {
      const int64_t row = task.rows * i / blocks;
      attend_block(task, s, row, task.rows * (i + 1) / blocks - row, key, count);
    }
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
