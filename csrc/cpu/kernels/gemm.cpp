// Matrix product with epilogue for one instruction set: the loop over panels and row blocks, what is done to
// a finished block, and the packing of weights. The micro-kernels are those of gemm_block.h, the packed
// format that of gemm.h.
#include "cpu/kernels/gemm.h"

#include <algorithm>

#include "cpu/kernels/epilogue.h"
#include "cpu/kernels/gemm_block.h"

namespace fsv::cpu::FSV_ISA {
namespace {

/// The micro-kernels of one element type.
struct Blocks {
  DType dtype;
  bool rounds;  ///< Target::rounded is known
  int64_t (*most_rows)(int64_t cols);
  int64_t (*group_rows)(int64_t cols);
  void (*multiply)(const RowSource&, int64_t, const char*, int64_t, const Target&);
};

/// Whether a sum (0 or an ordinary number, as the machine's products of bf16 are) and its bias never make a
/// denormal, which a difference of numbers can only be if they are below 2^-102.
bool never_denormal(const float* bias, int64_t cols) {
  bool never = true;
  for (int64_t c = 0; bias && c < cols; c++)
    never = never && (bias[c] == 0 || bias[c] >= 0x1p-102f || bias[c] <= -0x1p-102f);
  return never;
}

/// Height of the blocks that `rows` are cut into: even shares, so that 16 rows are 8 + 8, not 14 + 2, in
/// whole groups.
int64_t block_rows(int64_t rows, int64_t most, int64_t group) {
  const int64_t blocks = (rows + most - 1) / most, share = (rows + blocks - 1) / blocks;
  return (share + group - 1) / group * group;
}

/// A panel of at most so many bytes stays in L1 from one block of rows to the next.
constexpr int64_t kPanelInL1 = 16 << 10;

/// What a block of `rows` rows from `row` on calls into cache: its share of what follows the task's rows (the
/// next panel, or what the caller reads next) or, of an image, the newest row under the windows one run
/// below; and the places of its results, in cache before they are there.
inline void look_ahead(const GemmTask& task, int64_t row, int64_t rows, int64_t run, const char* next_panel,
                       int64_t panel_bytes, const char* to, RowSource& source) {
  const Epilogue& e = task.epilogue;
  const int64_t line = source.next.kLine, steps = std::max<int64_t>(1, task.segments * task.k / 32);
  const char* next = next_panel ? next_panel : task.ahead;
  const int64_t bytes = next_panel ? panel_bytes : task.ahead_bytes;
  if (next) {
    source.next.at = next + bytes * row / task.rows;
    source.next.count = (bytes * rows / task.rows + line - 1) / line;
  } else if (row + run < task.rows) {
    source.next.at =
        source.base + task.run_stride + (task.segment_offsets ? task.segment_offsets[task.segments - 1] : 0);
    source.next.count = (rows * task.row_stride + line - 1) / line;
  }
  source.next.spread(steps);
  const int64_t step = e.out_stride * static_cast<int64_t>(size_of(e.out_dtype));
  source.places.at = to;
  source.places.stride = std::max(step, line);
  source.places.count = task.ends ? (rows * step + source.places.stride - 1) / source.places.stride : 0;
  source.places.spread(steps);
}

/// A panel of W stays in L2 while all rows pass it, so the caller keeps a task's rows few enough to stay
/// there too.
void multiply(const GemmTask& task, const Blocks& blocks) {
  alignas(64) float sums[64 * kPanelCols];
  const Epilogue& e = task.epilogue;
  const char* a = static_cast<const char*>(task.a);
  const char* panel = static_cast<const char*>(task.panels);
  const int64_t panel_bytes = task.segments * segment_bytes(blocks.dtype, task.k);
  const int64_t panel_stride = task.panel_stride > 0 ? task.panel_stride : panel_bytes;
  const int64_t run = e.run < task.rows ? e.run : task.rows;
  const int64_t element = static_cast<int64_t>(size_of(e.out_dtype));
  const bool plain = blocks.rounds && e.out_dtype == DType::bf16 && e.activation == Activation::none &&
                     !e.row_bias && !e.gate && !e.residual;
  for (int64_t col = 0; col < task.cols; col += kPanelCols, panel += panel_stride) {
    const int64_t cols = task.cols - col < kPanelCols ? task.cols - col : kPanelCols;
    const bool more = col + kPanelCols < task.cols;
    float* const partial = task.partial ? task.partial + col * task.rows : nullptr;
    const int64_t most = blocks.most_rows(cols), group = blocks.group_rows(cols);
    const float* bias = e.bias ? e.bias + col : nullptr;
    const bool rounds = plain && cols % kLanes == 0 && never_denormal(bias, cols);
    const bool spans = run % group == 0;
    const int64_t together = spans ? task.rows : run;  // rows that blocks may be cut from
    const int64_t height = block_rows(together, most, spans ? group : 1);
    // Counted, not divided: a division between two blocks keeps the multipliers waiting for its result.
    int64_t row = 0, left = together, first = 0, in_run = 0;
    while (row < task.rows) {
      const int64_t rows = std::min(left, height), place = first * e.run_places + in_run;
      const Steps from{task.row_stride, task.run_stride - run * task.row_stride, run - in_run, run};
      RowSource source{a + first * task.run_stride + in_run * task.row_stride,
                       from,
                       task.k,
                       task.segments,
                       task.segment_offsets,
                       task.panel_offsets};
      source.streamed = panel_bytes > kPanelInL1;
      const char* out = static_cast<const char*>(e.out) + (place * e.out_stride + col) * element;
      look_ahead(task, row, rows, run, more ? panel + panel_stride : nullptr, panel_bytes, out, source);
      Target to{partial ? partial + row * kPanelCols : sums, kPanelCols, !task.begins};
      if (rounds && task.ends) {
        to.rounded = static_cast<uint16_t*>(e.out) + place * e.out_stride + col;
        to.steps = {e.out_stride, (e.run_places - run) * e.out_stride, run - in_run, run};
        to.bias = bias;
      }
      blocks.multiply(source, rows, panel, cols, to);
      if (!rounds && task.ends) finish(e, row, rows, col, cols, to.sums, kPanelCols);
      row += rows;
      left -= rows;
      if (left == 0) left = together;
      for (in_run += rows; in_run >= run; in_run -= run) first++;
    }
  }
}

void multiply_f32(const GemmTask& task) {
  multiply(task, {DType::f32, false, most_rows, group_rows, multiply_rows_f32});
}

void multiply_bf16(const GemmTask& task) {
  begin_bf16();
  multiply(task, {DType::bf16, kRoundsBf16, most_rows_bf16, group_rows_bf16, multiply_rows_bf16});
  end_bf16();
}

/// [32][k] -> [k][32], both of T; `k` rows of the panel, the columns beyond `cols` zero.
template <class T>
void transpose(const T* from, int64_t from_stride, int64_t cols, int64_t k, T* panel) {
  constexpr int64_t kStep = 16;  // a cache line of floats from each row, so that both sides stay in L1
  for (int64_t k0 = 0; k0 < k; k0 += kStep) {
    const int64_t depth = k - k0 < kStep ? k - k0 : kStep;
    T* to = panel + k0 * kPanelCols;
    for (int64_t c = 0; c < cols; c++)
      for (int64_t i = 0; i < depth; i++) to[i * kPanelCols + c] = from[c * from_stride + k0 + i];
    for (int64_t c = cols; c < kPanelCols; c++)
      for (int64_t i = 0; i < depth; i++) to[i * kPanelCols + c] = T{};
  }
}

struct F8Table {
  float at[256];
};
constexpr F8Table make_f8_table() {
  F8Table table{};
  for (int i = 0; i < 256; i++) table.at[i] = to_float(F8e4m3{static_cast<uint8_t>(i)});
  return table;
}
constexpr F8Table kF8 = make_f8_table();

/// bf16 panels, two of k as one word. `read(c, k, words, n)` gives n pairs of row c from element k on, zeros
/// beyond the end.
template <class Read>
void pack_pairs(int64_t cols, int64_t k, uint32_t* panel, const Read& read) {
  constexpr int64_t kStep = 16;
  alignas(64) uint32_t words[kPanelCols][kStep] = {};
  for (int64_t k0 = 0; k0 < k; k0 += 2 * kStep, panel += kStep * kPanelCols) {
    for (int64_t c = 0; c < cols; c++) read(c, k0, words[c]);
    for (int64_t c = 0; c < kPanelCols; c += kLanes)
      for (int64_t i = 0; i < kStep; i += kLanes) {
        Words square[kLanes];
        for (int64_t j = 0; j < kLanes; j++) std::memcpy(&square[j], &words[c + j][i], sizeof(Words));
        transpose_square(square);
        for (int64_t j = 0; j < kLanes; j++)
          std::memcpy(panel + (i + j) * kPanelCols + c, &square[j], sizeof(Words));
      }
  }
}

void pack(const PackTask& task) {
  char* panel = static_cast<char*>(task.panels);
  for (int64_t col = 0; col < task.cols; col += kPanelCols, panel += task.panel_stride) {
    const int64_t cols = task.cols - col < kPanelCols ? task.cols - col : kPanelCols;
    const int64_t first = col * task.row_stride;
    uint32_t* const pairs = reinterpret_cast<uint32_t*>(panel);
    if (task.dtype == DType::f32) {
      transpose(static_cast<const float*>(task.weight) + first, task.row_stride, cols, task.k,
                reinterpret_cast<float*>(panel));
    } else if (task.dtype == DType::bf16) {
      const uint16_t* from = static_cast<const uint16_t*>(task.weight) + first;
      pack_pairs(cols, task.k, pairs, [&](int64_t c, int64_t k, uint32_t* words) {
        const int64_t left = task.k - k;
        if (left < 32) std::memset(words, 0, 64);
        std::memcpy(words, from + c * task.row_stride + k, static_cast<size_t>(left < 32 ? left : 32) * 2);
      });
    } else {
      const uint8_t* from = static_cast<const uint8_t*>(task.weight) + first;
      pack_pairs(cols, task.k, pairs, [&](int64_t c, int64_t k, uint32_t* words) {
        alignas(64) float values[32] = {};
        alignas(64) uint16_t halves[32];
        const int64_t n = task.k - k < 32 ? task.k - k : 32;
        for (int64_t i = 0; i < n; i++)
          values[i] = kF8.at[from[c * task.row_stride + k + i]] * task.scales[col + c];
        for (int64_t i = 0; i < 32; i += kLanes) store_bf16_some(halves + i, load(values + i), kLanes);
        std::memcpy(words, halves, 64);
      });
    }
  }
}

/// `scales`: one for every kScaleGroup elements, or one for all.
void copy_fp8_row(const uint8_t* from, const float* scales, bool grouped, int64_t k, DType to_dtype,
                  void* to) {
  for (int64_t i = 0; i < k; i += kLanes) {
    const int64_t n = k - i < kLanes ? k - i : kLanes;
    float values[kLanes] = {};
    const float scale = scales[grouped ? i / kScaleGroup : 0];
    for (int64_t j = 0; j < n; j++) values[j] = kF8.at[from[i + j]] * scale;
    uint16_t halves[kLanes];
    store_bf16_some(halves, load(values), kLanes);
    if (to_dtype == DType::bf16)
      std::memcpy(static_cast<uint16_t*>(to) + i, halves, static_cast<size_t>(n) * 2);
    else
      store_some(static_cast<float*>(to) + i, load_bf16_some(halves, n), n);
  }
}

void copy_rows(const CopyRowsTask& task) {
  const char* from = static_cast<const char*>(task.from);
  char* to = static_cast<char*>(task.to);
  for (int64_t r = 0; r < task.rows; r++, from += task.from_stride, to += task.to_stride) {
    if (task.from_dtype == task.to_dtype) {
      std::memcpy(to, from, static_cast<size_t>(task.k) * size_of(task.to_dtype));
      continue;
    }
    if (task.from_dtype == DType::f8e4m3) {
      copy_fp8_row(reinterpret_cast<const uint8_t*>(from),
                   task.scales + r * (task.scale_groups > 0 ? task.scale_groups : 1), task.scale_groups > 0,
                   task.k, task.to_dtype, to);
      continue;
    }
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(from);
    float* floats = reinterpret_cast<float*>(to);
    for (int64_t i = 0; i < task.k; i += kLanes)
      store_some(floats + i, load_bf16_some(halves + i, task.k - i), task.k - i);
  }
}

}  // namespace

extern const GemmKernels gemm_kernels;
const GemmKernels gemm_kernels = {
    .bf16_operand = kBf16Operand,
    .row_block_f32 = kBlockRows,
    .row_block_bf16 = kBlockRowsBf16,
    .depth_bf16 = kDepthBf16,
    .few_cut_pixels = FSV_ISA_LEVEL >= FSV_LEVEL_AMX ? 4096 : 1024,
    .k_part_bf16 = FSV_ISA_LEVEL >= FSV_LEVEL_AMX ? 2048 : 0,
    .multiply_f32 = multiply_f32,
    .multiply_bf16 = multiply_bf16,
    .pack = pack,
    .copy_rows = copy_rows,
};

}  // namespace fsv::cpu::FSV_ISA
