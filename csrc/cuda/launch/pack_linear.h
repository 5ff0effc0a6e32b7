// Packed weights of linear layers: rows of packed_stride elements (linear_plan.h), f32 or bf16, zeros behind
// the last column.
#pragma once

#include <cuda_runtime.h>

#include "ops/ops.h"

namespace fsv::cuda {

/// Writes weight [N, K] to `out`; f8e4m3 times its scales becomes bf16.
void pack_linear(cudaStream_t stream, const TensorView& weight, const TensorView& scales, void* out);
size_t packed_linear_bytes(const TensorView& weight);

}  // namespace fsv::cuda
