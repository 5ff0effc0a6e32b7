// The norm of rows for ops that end in one (norm.cpp).
#pragma once

#include "cpu/kernels/rows.h"

namespace fsv::cpu {

/// pixel_norm as the kernel takes it.
NormTask norm_task(const PixelNormArgs& args);

}  // namespace fsv::cpu
