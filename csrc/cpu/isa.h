// Instruction sets the kernels are compiled for, from least to best. Every file in cpu/kernels is compiled
// once for each (but for AMX those of rows, which have no use for tiles), with FSV_ISA set to the name (it
// becomes a namespace) and FSV_ISA_LEVEL to the number.
#pragma once

#include <string>
#include <vector>

#define FSV_LEVEL_PORTABLE 0
#define FSV_LEVEL_AVX2 1
#define FSV_LEVEL_AVX512 2
#define FSV_LEVEL_AVX512BF16 3
#define FSV_LEVEL_AMX 4

namespace fsv::cpu {

struct Kernels;

/// Names of the instruction sets that this build has and this machine can run, the best last.
/// AMX is asked for from the kernel (arch_prctl) the first time.
const std::vector<std::string>& usable_isas();

/// The kernels of `isa`, or of the best usable one when it is empty.
/// Throws ERR_FSVIDEO_UNSUPPORTED_DEVICE naming the usable ones.
const Kernels& kernels_for(const std::string& isa);

}  // namespace fsv::cpu
