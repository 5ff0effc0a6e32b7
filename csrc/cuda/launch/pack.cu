// Which weight goes to which packing.
#include "cuda/backend.h"
#include "cuda/launch/pack_conv.h"

namespace fsv::cuda {

size_t CudaBackend::packed_bytes(const PackArgs& args) const {
  if (args.layout == Layout::packed_conv) return packed_conv_bytes(args.weight, args.groups);
  return static_cast<size_t>(args.weight.bytes());
}

void CudaBackend::pack(const PackArgs& args) {
  if (args.layout == Layout::packed_conv) return pack_conv(stream(), args.weight, args.groups, args.out.data);
  throw Error(code::kUnsupportedDevice, "the CUDA backend has no packing of linear layers yet");
}

}  // namespace fsv::cuda
