#include "cuda/kernels/fp8.cuh"
#include "cuda/launch.h"
#include "cuda/launch/linear_plan.h"
#include "cuda/launch/pack_linear.h"

namespace fsv::cuda {
namespace {

DType packed_dtype(DType dtype) { return dtype == DType::f8e4m3 ? DType::bf16 : dtype; }

}  // namespace

size_t packed_linear_bytes(const TensorView& weight) {
  const DType dtype = packed_dtype(weight.dtype);
  return static_cast<size_t>(weight.shape[0] * packed_stride(dtype, weight.shape[1])) * size_of(dtype);
}

void pack_linear(cudaStream_t stream, const TensorView& weight, const TensorView& scales, void* out) {
  kernels::PackRowsArgs args;
  args.weight = weight.data;
  args.scales = scales.as<float>();
  args.out = out;
  args.rows = weight.shape[0];
  args.channels = weight.shape[1];
  args.stride = packed_stride(packed_dtype(weight.dtype), args.channels);
  args.f32 = weight.dtype == DType::f32;
  launch(stream, kernels::pack_rows,
         {.grid = blocks(args.rows, kernels::kRowWarps), .block = 32 * kernels::kRowWarps}, args);
}

}  // namespace fsv::cuda
