// The micro-kernel that multiplies bf16 on this instruction set: tiles where there are some, else registers.
#pragma once

#include "cpu/kernels/gemm_block.h"
#if FSV_ISA_LEVEL >= FSV_LEVEL_AMX
#include "cpu/kernels/gemm_tiles.h"
#else

namespace fsv::cpu::FSV_ISA {

inline constexpr int kBlockRowsBf16 = kBlockRows;
inline constexpr int kDepthBf16 = 2;
inline constexpr bool kRoundsBf16 = FSV_ISA_LEVEL >= FSV_LEVEL_AVX512BF16;
static inline int64_t most_rows_bf16(int64_t cols) { return most_rows(cols); }
static inline int64_t group_rows_bf16(int64_t cols) { return group_rows(cols); }

static inline void multiply_rows_bf16(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                                      const Target& to) {
  multiply_rows<MultiplyBf16>(rows, count, panel, cols, to);
}
static inline void begin_bf16() {}
static inline void end_bf16() {}

}  // namespace fsv::cpu::FSV_ISA

#endif
