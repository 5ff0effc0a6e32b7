// Scheduling of the fp8 conversions with a scale a row: ranges of rows.
#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {

void CpuBackend::quantize_fp8(const QuantizeFp8Args& args) {
  const int64_t rows = args.x.shape.elements(0, args.x.shape.rank - 1), channels = args.x.shape[-1];
  const Fp8Task task = {.x = args.x.data,
                        .out = args.out.data,
                        .scales = args.scales.as<float>(),
                        .dtype = args.x.dtype,
                        .channels = channels};
  pool_.parallel_for(rows, rows_a_range(channels * static_cast<int64_t>(size_of(args.x.dtype))),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->quantize_fp8(task, begin, end); });
}

void CpuBackend::dequantize_fp8(const DequantizeFp8Args& args) {
  const int64_t rows = args.x.shape.elements(0, args.x.shape.rank - 1), channels = args.x.shape[-1];
  const Fp8Task task = {.x = args.x.data,
                        .out = args.out.data,
                        .scales = args.scales.as<float>(),
                        .dtype = args.out.dtype,
                        .channels = channels};
  pool_.parallel_for(
      rows, rows_a_range(channels * static_cast<int64_t>(size_of(args.out.dtype))),
      [&](int64_t begin, int64_t end, int) { kernels_.rows->dequantize_fp8(task, begin, end); });
}

}  // namespace fsv::cpu
