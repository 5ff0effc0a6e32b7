// Which weight goes to which packing.
#include "cuda/backend.h"
#include "cuda/launch/pack_conv.h"
#include "cuda/launch/pack_linear.h"

namespace fsv::cuda {

size_t CudaBackend::packed_bytes(const PackArgs& args) const {
  return args.layout == Layout::packed_conv ? packed_conv_bytes(args.weight, args.groups)
                                            : packed_linear_bytes(args.weight);
}

void CudaBackend::pack(const PackArgs& args) {
  if (args.layout == Layout::packed_conv)
    pack_conv(stream(), args.weight, args.groups, args.out.data);
  else
    pack_linear(stream(), args.weight, args.scales, args.out.data);
}

}  // namespace fsv::cuda
