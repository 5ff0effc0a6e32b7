// The micro-kernels: a block of rows of A times one packed panel (format in gemm.h), sums left in a small f32
// buffer that is still in L1 when its reader (an epilogue, a softmax) comes. They are in registers
// (gemm_registers.h), for bf16 on AMX in tiles (gemm_tiles.h), and compiled in one place, gemm_block.cpp.
#pragma once

#include "cpu/kernels/gemm.h"
#include "cpu/kernels/simd.h"

namespace fsv::cpu::FSV_ISA {

/// The step from row to row of a block, in whatever unit: `stride`, and `jump` more after the first `left`
/// rows and then after every `run`.
struct Steps {
  int64_t stride;
  int64_t jump = 0, left = kOneRun, run = kOneRun;
};

/// Lines that a block calls into cache while it multiplies, so many with each step of k: a burst of them
/// would fill the few buffers in which misses wait, and the block's own loads would wait behind it.
template <bool kWritten, int kLocality>
struct Ahead {
  static constexpr int64_t kLine = 64;
  const char* at = nullptr;
  int64_t stride = kLine;  ///< bytes from one to the next
  int64_t count = 0, a_step = 0;

  void spread(int64_t steps) { a_step = (count + steps - 1) / steps; }
  void step() {
    for (int64_t i = 0; i < a_step && count > 0; i++, count--, at += stride)
      __builtin_prefetch(at, kWritten, kLocality);
  }
};

/// Rows of A: row r of segment s is k elements from base + offsets[s] (bytes; no offsets: 0) and r steps. The
/// segment's part of a panel stands panel_offsets[s] bytes behind its begin; no offsets: one part behind the
/// other.
struct RowSource {
  const char* base;
  Steps steps;
  int64_t k;
  int64_t segments;
  const int64_t* offsets = nullptr;
  const int64_t* panel_offsets = nullptr;
  Ahead<false, 2> next = {};   ///< what will be read soon after the block, into L2
  Ahead<true, 3> places = {};  ///< where its results go
  /// The panel is not wanted again before others have passed through L1.
  bool streamed = false;
};

/// Where the sums of a block go: as they are to `sums`, added to what is there if asked to, or, if `rounded`
/// is there, with the bias (if any) to their place as bf16; then `sums` may be written too.
struct Target {
  float* sums;
  int64_t stride;  ///< of sums
  bool accumulate = false;
  uint16_t* rounded = nullptr;
  Steps steps = {};  ///< of rounded
  const float* bias = nullptr;
};

#if FSV_ISA_LEVEL >= FSV_LEVEL_AVX512
inline constexpr int kBlockRows = 14;
#elif FSV_ISA_LEVEL >= FSV_LEVEL_AVX2
inline constexpr int kBlockRows = 6;
#else
inline constexpr int kBlockRows = 4;
#endif

/// Rows that may not be torn apart by the end of a run, in a block of R rows. Each such group has one
/// pointer: pointers of all rows would spill, and more distant rows than these would not have one run.
template <int R>
inline constexpr int kGroupRows = R <= kBlockRows ? 2 : 4;

/// The most rows of a block: with one vector a row there are registers for twice as many.
static inline int64_t most_rows(int64_t cols) { return cols <= kLanes ? 2 * kBlockRows : kBlockRows; }

/// Runs of a multiple of so many rows may end inside a block.
static inline int64_t group_rows(int64_t cols) {
  return cols <= kLanes ? kGroupRows<2 * kBlockRows> : kGroupRows<kBlockRows>;
}

/// The type in which A meets bf16 panels.
inline constexpr DType kBf16Operand = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16 ? DType::bf16 : DType::f32;
inline constexpr bool kRoundsBf16 = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16;  ///< Target::rounded is known
inline constexpr int kDepthBf16 = 2;
#if FSV_ISA_LEVEL >= FSV_LEVEL_AMX
inline constexpr int kBlockRowsBf16 = 32;  ///< of a panel of more than 16 columns
static inline int64_t most_rows_bf16(int64_t cols) { return cols > 16 ? kBlockRowsBf16 : 2 * kBlockRowsBf16; }
static inline int64_t group_rows_bf16(int64_t) { return kOneRun; }  // a tile has one stride
#else
inline constexpr int kBlockRowsBf16 = kBlockRows;
static inline int64_t most_rows_bf16(int64_t cols) { return most_rows(cols); }
static inline int64_t group_rows_bf16(int64_t cols) { return group_rows(cols); }
#endif

/// `count` <= most_rows(cols) rows times cols <= 32 columns of one panel, rounded up to vectors.
void multiply_rows_f32(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                       const Target& to);
/// The same of bf16 panels, count <= most_rows_bf16(cols), between `begin_bf16` and `end_bf16`.
void multiply_rows_bf16(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                        const Target& to);
void begin_bf16();
void end_bf16();

}  // namespace fsv::cpu::FSV_ISA
