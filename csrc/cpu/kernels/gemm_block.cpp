// Apart from their callers, `gemm.cpp` and `attention.cpp`, because a micro-kernel of every height takes the
// compiler longer than all the rest.
#include "cpu/kernels/gemm_block.h"

#include "cpu/kernels/gemm_registers.h"
#if FSV_ISA_LEVEL >= FSV_LEVEL_AMX
#include "cpu/kernels/gemm_tiles.h"
#endif

namespace fsv::cpu::FSV_ISA {

void multiply_rows_f32(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                       const Target& to) {
  multiply_rows<MultiplyF32>(rows, count, panel, cols, to);
}

#if FSV_ISA_LEVEL >= FSV_LEVEL_AMX
void multiply_rows_bf16(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                        const Target& to) {
  multiply_rows_tiles(rows, count, panel, cols, to);
}
void begin_bf16() { begin_tiles(); }
void end_bf16() { end_tiles(); }
#else
void multiply_rows_bf16(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                        const Target& to) {
  multiply_rows<MultiplyBf16>(rows, count, panel, cols, to);
}
void begin_bf16() {}
void end_bf16() {}
#endif

}  // namespace fsv::cpu::FSV_ISA
