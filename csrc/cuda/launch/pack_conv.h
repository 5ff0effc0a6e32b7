// Packed weights of convolutions (kernels/conv_layout.h).
#pragma once

#include <cuda_runtime.h>

#include "ops/ops.h"

namespace fsv::cuda {

/// Writes weight [O, C / groups, kt, kh, kw] of f32 or bf16 to `out`, in its own type.
void pack_conv(cudaStream_t stream, const TensorView& weight, int64_t groups, void* out);
size_t packed_conv_bytes(const TensorView& weight, int64_t groups);

}  // namespace fsv::cuda
