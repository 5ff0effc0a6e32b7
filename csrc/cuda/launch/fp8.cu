#include "cuda/backend.h"
#include "cuda/kernels/fp8.cuh"

namespace fsv::cuda {
namespace {

kernels::Fp8Args fp8_args(const TensorView& x, const TensorView& scales, const TensorView& out, DType plain) {
  kernels::Fp8Args args;
  args.x = x.data;
  args.out = out.data;
  args.scales = scales.as<float>();
  args.rows = x.shape.elements(0, x.shape.rank - 1);
  args.channels = x.shape[-1];
  args.f32 = plain == DType::f32;
  return args;
}

LaunchShape rows_shape(int64_t rows) {
  return {.grid = blocks(rows, kernels::kRowWarps), .block = 32 * kernels::kRowWarps};
}

}  // namespace

void CudaBackend::quantize_fp8(const QuantizeFp8Args& args) {
  const auto p = fp8_args(args.x, args.scales, args.out, args.x.dtype);
  launch(kernels::quantize_fp8_rows, rows_shape(p.rows), p);
}

void CudaBackend::dequantize_fp8(const DequantizeFp8Args& args) {
  const auto p = fp8_args(args.x, args.scales, args.out, args.dtype);
  launch(kernels::dequantize_fp8_rows, rows_shape(p.rows), p);
}

}  // namespace fsv::cuda
