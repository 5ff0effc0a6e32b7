// Scheduling of the fp8 conversions: ranges of rows. Results of fp8 are made in two passes.
#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

Fp8Task task_of(const TensorView& x, const TensorView& scales, const TensorView& out, DType wide) {
  return {.x = x.data,
          .out = out.data,
          .scales = scales.as<float>(),
          .group = scale_groups(scales, x) > 0 ? kScaleGroup : x.shape[-1],
          .dtype = wide,
          .channels = x.shape[-1]};
}

template <class Args>
size_t result_bytes(const Args& args) {
  return args.dtype == DType::f8e4m3 ? unquantized_bytes(args) : 0;
}

}  // namespace

void CpuBackend::quantize_fp8(const QuantizeFp8Args& args) {
  const Fp8Task task = task_of(args.x, args.scales, args.out, args.x.dtype);
  pool_.parallel_for(args.x.shape.elements(0, args.x.shape.rank - 1),
                     rows_a_range(task.channels * static_cast<int64_t>(size_of(task.dtype))),
                     [&](int64_t begin, int64_t end, int) { kernels_.rows->quantize_fp8(task, begin, end); });
}

void CpuBackend::dequantize_fp8(const DequantizeFp8Args& args) {
  const Fp8Task task = task_of(args.x, args.scales, args.out, args.out.dtype);
  pool_.parallel_for(
      args.x.shape.elements(0, args.x.shape.rank - 1),
      rows_a_range(task.channels * static_cast<int64_t>(size_of(task.dtype))),
      [&](int64_t begin, int64_t end, int) { kernels_.rows->dequantize_fp8(task, begin, end); });
}

size_t CpuBackend::workspace_bytes(const LinearArgs& args) const { return result_bytes(args); }
size_t CpuBackend::workspace_bytes(const NormModulateArgs& args) const { return result_bytes(args); }
size_t CpuBackend::workspace_bytes(const LayerMemoryArgs& args) const { return result_bytes(args); }

}  // namespace fsv::cpu
