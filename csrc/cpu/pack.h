// Packing of weights for the CPU backend, by the op that will read them. The byte counts depend on the shape
// alone, never on the instruction set, so that the planning device knows them too.
#pragma once

#include <cstddef>

#include "core/thread_pool.h"
#include "cpu/kernels/kernels.h"
#include "ops/ops.h"

namespace fsv::cpu {

/// weight [N, K] (f8e4m3 times its scales becomes bf16) into panels of kernels/gemm.h.
void pack_linear(const PackArgs& args, const Kernels& kernels, ThreadPool& pool);
size_t packed_linear_bytes(const PackArgs& args);

/// weight [O, C / groups, kt, kh, kw] into the order of conv3d.cpp.
void pack_conv(const PackArgs& args, const Kernels& kernels, ThreadPool& pool);
size_t packed_conv_bytes(const PackArgs& args);

}  // namespace fsv::cpu
