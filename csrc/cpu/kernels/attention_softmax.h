// The running softmax of a block of queries, a few keys at a time (attention.cpp).
//
// Scores become shares 2^(score - origin), in units of log2 so that the softmax needs 2^x only. The origin of
// a query is the highest score of the first keys that it meets. Later ones may be higher: sums of floats are
// as exact at any origin, so it moves only when the shares grow large, which their sum shows; nobody looks
// for the highest score of a step. The sum is that of the shares as they are stored, so that a single key's
// share of it is 1 whatever rounding did to it.
#pragma once

#include <algorithm>

#include "cpu/kernels/attention.h"
#include "cpu/kernels/gemm_block.h"
#include "cpu/kernels/stored.h"

namespace fsv::cpu::FSV_ISA {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kMinusInfinity = -__builtin_inff();
/// The most that a lane's shares of one step may sum up to before the origin moves.
inline constexpr float kMostShares = 0x1p20f;
/// Of queries in a task: as many as make up for reading all keys and values once, from the cache that all
/// share.
inline constexpr int kRowBlocks = FSV_ISA_LEVEL >= FSV_LEVEL_AMX      ? 8
                                  : FSV_ISA_LEVEL >= FSV_LEVEL_AVX512 ? 4
                                                                      : 8;
inline constexpr int64_t kMaxBlockRows = kBlockRowsBf16 > kBlockRows ? kBlockRowsBf16 : kBlockRows;
inline constexpr int64_t kQueryRows = kRowBlocks * kMaxBlockRows;
/// Keys that stay in L2 with their values while all queries of a task pass them.
inline constexpr int64_t kKeySpan = 4 * kKeyBlock;
/// Keys of a step: two panels, whose scores are still in L1 when they are read.
inline constexpr int64_t kStepKeys = 2 * kPanelCols;
/// Floats from row to row. A line more than the elements take, so that rows lie in different sets of the
/// cache.
inline constexpr int64_t kScoreStride = kStepKeys + 16, kShareStride = kKeyBlock + 16;

static inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/// The type in which queries, keys, values and their shares meet the multipliers.
static inline DType operand_of(DType dtype) { return dtype == DType::bf16 ? kBf16Operand : DType::f32; }

/// Keys that the products see: pairs of vectors where shares are stored as bf16. Those beyond the end have a
/// share of 0.
static inline int64_t padded_keys(int64_t count, DType operand) {
  return round_up(count, operand == DType::bf16 ? 2 * kLanes : kLanes);
}

/// Queries row .. row + rows (one block of the micro-kernel) and keys key .. key + count, of those from
/// `span` on.
struct Block {
  int64_t row = 0, rows = 0, key = 0, count = 0, span = 0;
};

/// What a task keeps while it walks along the keys.
struct State {
  float* scores;  ///< [kMaxBlockRows][kScoreStride] of a step of keys
  float* shares;  ///< [kMaxBlockRows][kShareStride] of a block of keys, in the operand's type
  float* out;     ///< [kQueryRows][out_stride] shares times values, not yet divided by their sum
  int64_t out_stride;
  float* origin;  ///< [kQueryRows]; -infinity until there is a key whose bias is above that
  Floats* total;  ///< [kQueryRows] of the shares, one sum a lane
  char* queries;  ///< [kQueryRows] rows in the operand's type
  int64_t query_stride;
};

/// The softmax of one step: keys `first` on of the block's.
struct Softmax {
  const AttentionTask& task;
  const State& s;
  const Block& block;
  int64_t first;

  DType operand = operand_of(task.dtype);
  int64_t count = std::min(block.count - first, kStepKeys), padded = padded_keys(count, operand);
  float factor = task.scale * kLog2E;  ///< to units of log2

  /// All rows' scores into shares.
  void run() {
    if (!task.bias && task.scale > 0 && count == kStepKeys && operand == DType::bf16) {
      for (int64_t row = 0; row < block.rows; row++) soften<true>(row);
      return;
    }
    const bool scales = task.bias || task.scale <= 0;  // so that the factor is above 0
    for (int64_t row = 0; row < block.rows; row++) prepare(row, scales);
    if (scales) factor = 1;
    for (int64_t row = 0; row < block.rows; row++) soften<false>(row);
  }

 private:
  static constexpr int64_t kVectors = kStepKeys / kLanes;

  /// Scales and adds the bias, in units of log2, and fills up with keys that count for nothing.
  void prepare(int64_t row, bool scales) {
    float* at = s.scores + row * kScoreStride;
    const float* bias =
        task.bias ? task.bias + (block.row + row) * task.bias_stride + block.key + first : nullptr;
    for (int64_t i = 0; scales && i < padded; i += kLanes) {
      const Floats add = bias && i < count ? load_some(bias + i, count - i) * kLog2E : Floats{};
      store(at + i, fma(load(at + i), set(factor), add));
    }
    for (int64_t i = count; i < padded; i++) at[i] = kMinusInfinity;
  }

  /// `kPlain`: a whole step of bf16.
  template <bool kPlain>
  FSV_INLINE inline void soften(int64_t row) {
    const int64_t vectors = kPlain ? kVectors : padded / kLanes;
    const float* from = s.scores + row * kScoreStride;
    float* to = s.shares + row * kShareStride;
    const auto share = [&](float origin) FSV_INLINE {
      const auto x = [&](int64_t v)
                         FSV_INLINE { return fma(load(from + v * kLanes), set(factor), set(-origin)); };
      Floats sums = {};
      if (kPlain || operand == DType::bf16) {
        uint16_t* halves = reinterpret_cast<uint16_t*>(to) + first;
        for (int64_t v = 0; v < vectors; v += 2)
          sums += store_bf16_pair(halves + v * kLanes, exp2_coarse(x(v)), exp2_coarse(x(v + 1)));
      } else {
        for (int64_t v = 0; v < vectors; v++) {
          const Floats y = exp2(x(v));
          store(to + first + v * kLanes, y);
          sums += y;
        }
      }
      return sums;
    };
    Floats sums = share(s.origin[block.row + row]);
    // An origin of -infinity makes every share infinite, or NaN under a bias of -infinity.
    if (any_not_below(sums, kMostShares)) [[unlikely]]
      sums = share(move_origin(row, vectors));
    s.total[block.row + row] += sums;
  }

  /// The new origin, to which everything is brought that was summed under the old one; nothing was under the
  /// first.
  [[gnu::noinline]] float move_origin(int64_t row, int64_t vectors) {
    const float* at = s.scores + row * kScoreStride;
    Floats top = set(kMinusInfinity);
    for (int64_t v = 0; v < vectors; v++) top = max(load(at + v * kLanes), top);  // NaN is passed over
    float& origin = s.origin[block.row + row];
    if (const float highest = largest(top) * factor; highest > origin) {
      if (origin != kMinusInfinity) rescale(row, exp2(set(origin - highest))[0]);
      origin = highest;
    }
    return origin == kMinusInfinity ? 0.0f : origin;  // then every score is -infinity, too, or NaN
  }

  /// Everything that was summed so far, and the shares of this block's earlier keys.
  void rescale(int64_t row, float keep) {
    s.total[block.row + row] *= keep;
    float* out = s.out + (block.row + row) * s.out_stride;
    for (int64_t c = 0; c < s.out_stride; c += kLanes) store(out + c, load(out + c) * keep);
    float* shares = s.shares + row * kShareStride;
    for (int64_t i = 0; i < first; i += kLanes) {
      if (operand == DType::bf16) {
        uint16_t* at = reinterpret_cast<uint16_t*>(shares) + i;
        store_bf16_some(at, load_bf16_some(at, kLanes) * keep, kLanes);
      } else {
        store(shares + i, load(shares + i) * keep);
      }
    }
  }
};

}  // namespace fsv::cpu::FSV_ISA
