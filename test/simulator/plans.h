// How the CUDA backend would run an op on a card of so many multiprocessors: what its pure plans say, in
// numbers. The prediction of `fsvideo bench --device sim` is made of it.
#pragma once

#include <cstdint>
#include <string>

#include "ops/ops.h"

namespace sim {

struct Plan {
  std::string kernel;
  int rows = 0, columns = 0;  ///< of a tile of the result; of attention: queries, and keys of a block
  int last_columns = 0;       ///< of the tiles of a product that come last; 0: as of the others
  int cluster = 1;
  int64_t tiles = 0;
  int64_t rounds = 0;  ///< that the card needs for all tiles
  double cycles = 0;   ///< that they take as the plan models them; 0 where it has no model
};

/// x of `dtype` [m, k], weight [n, k] of the same; `fp8_result` with scales for groups.
Plan plan_linear(fsv::DType dtype, int64_t m, int64_t n, int64_t k, int processors, bool fp8_result);
/// Shapes and dtypes as the op gets them, without data.
Plan plan_attention(const fsv::AttentionArgs& args, int processors);
/// Likewise, with the shape of `out`.
Plan plan_conv3d(const fsv::Conv3dArgs& args, int processors);

}  // namespace sim
