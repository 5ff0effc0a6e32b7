// A convolution with a norm, where a backend has no kernel that does both: the convolution alone, and
// pixel_norm after it in place.
#pragma once

#include "ops/ops.h"

namespace fsv {

/// What comes before the norm.
inline Conv3dArgs without_norm(Conv3dArgs args) {
  args.norm = false;
  args.norm_weight = args.norm_bias = args.residual = {};
  args.activation = Activation::none;
  return args;
}

/// The norm of that and what comes after it, in place.
inline PixelNormArgs norm_of(const Conv3dArgs& args) {
  return {.x = args.out,
          .weight = args.norm_weight,
          .bias = args.norm_bias,
          .residual = args.residual,
          .out = args.out,
          .activation = args.activation,
          .eps = args.norm_eps};
}

}  // namespace fsv
