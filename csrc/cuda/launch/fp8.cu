// The fp8 conversions, and the packing of linear layers' weights, fp8 or not.
#include "cuda/backend.h"
#include "cuda/kernels/fp8.cuh"
#include "cuda/launch/linear_plan.h"
#include "cuda/launch/pack_linear.h"

namespace fsv::cuda {
namespace {

kernels::Fp8Args fp8_args(const TensorView& x, const TensorView& scales, const TensorView& out, DType plain) {
  kernels::Fp8Args args;
  args.x = x.data;
  args.out = out.data;
  args.scales = scales.as<float>();
  args.rows = x.shape.elements(0, x.shape.rank - 1);
  args.channels = x.shape[-1];
  args.groups = scale_groups(scales, x);
  args.f32 = plain == DType::f32;
  return args;
}

LaunchShape rows_shape(int64_t rows) {
  return {.grid = blocks(rows, kernels::kRowWarps), .block = 32 * kernels::kRowWarps};
}

DType packed_dtype(DType dtype) { return dtype == DType::f8e4m3 ? DType::bf16 : dtype; }

}  // namespace

void CudaBackend::quantize_fp8(const QuantizeFp8Args& args) {
  const auto p = fp8_args(args.x, args.scales, args.out, args.x.dtype);
  launch(kernels::quantize_fp8_rows, rows_shape(p.rows), p);
}

void CudaBackend::dequantize_fp8(const DequantizeFp8Args& args) {
  const auto p = fp8_args(args.x, args.scales, args.out, args.dtype);
  launch(kernels::dequantize_fp8_rows, rows_shape(p.rows), p);
}

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
