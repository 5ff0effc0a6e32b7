// The pack op: which weight goes to which packing. Linear weights become the panels of kernels/gemm.h, one
// work item a panel.
#include "cpu/pack.h"

#include "cpu/backend.h"

namespace fsv::cpu {

size_t packed_linear_bytes(const PackArgs& args) {
  const DType dtype = args.weight.dtype == DType::f32 ? DType::f32 : DType::bf16;
  return static_cast<size_t>(panel_count(args.weight.shape[0]) * segment_bytes(dtype, args.weight.shape[1]));
}

void pack_linear(const PackArgs& args, const Kernels& kernels, ThreadPool& pool) {
  const TensorView& w = args.weight;
  const int64_t n = w.shape[0], k = w.shape[1];
  const int64_t panel = segment_bytes(args.out.dtype, k);
  const int64_t row = k * static_cast<int64_t>(size_of(w.dtype));
  pool.parallel_for(panel_count(n), 4, [&](int64_t begin, int64_t end, int) {
    const int64_t first = begin * kPanelCols;
    PackTask task;
    task.weight = w.as<char>() + first * row;
    task.dtype = w.dtype;
    task.row_stride = k;
    task.scales = args.scales ? args.scales.as<float>() + first : nullptr;
    task.cols = end * kPanelCols < n ? (end - begin) * kPanelCols : n - first;
    task.k = k;
    task.panels = args.out.as<char>() + begin * panel;
    task.panel_stride = panel;
    kernels.gemm->pack(task);
  });
}

size_t packed_bytes(const PackArgs& args) {
  return args.layout == Layout::packed_conv ? packed_conv_bytes(args) : packed_linear_bytes(args);
}

void CpuBackend::pack(const PackArgs& args) {
  if (args.layout == Layout::packed_conv)
    pack_conv(args, kernels_, pool_);
  else
    pack_linear(args, kernels_, pool_);
}

}  // namespace fsv::cpu
