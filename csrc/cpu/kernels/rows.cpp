// The table of row kernels of one instruction set; the kernels themselves stand in rows_*.cpp.
#include "cpu/kernels/rows.h"

namespace fsv::cpu::FSV_ISA {

#define FSV_DECLARE(name, Task) void name(const Task& task, int64_t begin, int64_t end);
FSV_FOR_EACH_ROW_KERNEL(FSV_DECLARE)
#undef FSV_DECLARE

extern const RowKernels row_kernels;
const RowKernels row_kernels = {
#define FSV_ENTRY(name, Task) name,
    FSV_FOR_EACH_ROW_KERNEL(FSV_ENTRY)
#undef FSV_ENTRY
};

}  // namespace fsv::cpu::FSV_ISA
