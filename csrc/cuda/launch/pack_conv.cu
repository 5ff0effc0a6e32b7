#include <algorithm>

#include "cuda/kernels/pack_conv.cuh"
#include "cuda/launch.h"
#include "cuda/launch/pack_conv.h"

namespace fsv::cuda {

size_t packed_conv_bytes(const TensorView& weight, int64_t groups) {
  const kernels::ConvLayout layout = kernels::conv_layout(weight.dtype, weight.shape, groups);
  return static_cast<size_t>(layout.elements()) * size_of(weight.dtype);
}

void pack_conv(cudaStream_t stream, const TensorView& weight, int64_t groups, void* out) {
  if (weight.elements() == 0) return;
  constexpr int64_t kMostBlocks = 1 << 16;  // enough for any card; a thread goes on where there is more
  const kernels::ConvLayout layout = kernels::conv_layout(weight.dtype, weight.shape, groups);
  const unsigned grid =
      blocks(std::min(layout.elements(), kMostBlocks * kernels::kPackConvThreads), kernels::kPackConvThreads);
  const LaunchShape shape = {.grid = grid, .block = kernels::kPackConvThreads};
  if (weight.dtype == DType::f32)
    launch(stream, kernels::pack_conv<float>, shape, layout, weight.as<const float>(),
           static_cast<float*>(out));
  else
    launch(stream, kernels::pack_conv<uint16_t>, shape, layout, weight.as<const uint16_t>(),
           static_cast<uint16_t*>(out));
}

}  // namespace fsv::cuda
