// Ops that have no kernel on this backend yet.
#include "cuda/backend.h"

namespace fsv::cuda {

#define FSV_MISSING(name, Name)                                                                \
  void CudaBackend::name(const Name##Args&) {                                                  \
    throw Error(code::kUnsupportedDevice, "the CUDA backend has no kernel for " #name " yet"); \
  }

FSV_MISSING(layer_memory, LayerMemory)
FSV_MISSING(norm_modulate, NormModulate)
FSV_MISSING(qk_norm_rope, QkNormRope)
FSV_MISSING(pixel_norm, PixelNorm)
FSV_MISSING(group_norm, GroupNorm)
FSV_MISSING(unshuffle3d, Unshuffle3d)
FSV_MISSING(shuffle3d, Shuffle3d)
FSV_MISSING(randn, Randn)
FSV_MISSING(fill, Fill)
FSV_MISSING(cast, Cast)
FSV_MISSING(concat, Concat)
FSV_MISSING(slice, Slice)
FSV_MISSING(permute, Permute)
FSV_MISSING(embedding, Embedding)
FSV_MISSING(modulation, Modulation)
FSV_MISSING(affine, Affine)
FSV_MISSING(activate, Activate)
FSV_MISSING(glu, Glu)
FSV_MISSING(from_rgb8, FromRgb8)
FSV_MISSING(to_rgb8, ToRgb8)
FSV_MISSING(all_finite, AllFinite)
FSV_MISSING(dynamic_mask, DynamicMask)

}  // namespace fsv::cuda
