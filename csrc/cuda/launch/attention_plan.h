// Which attention kernel takes a problem, and in tiles of which size: pure functions of the arguments and the
// kind of card. Only what is the same for every sample counts, and of the queries only whether there are any,
// so that a query's bits depend neither on the batch nor on the other queries.
#pragma once

#include <climits>
#include <cstdint>

#include "ops/ops.h"

namespace fsv::cuda {

struct AttentionPlan {
  enum class Kernel : uint8_t {
    nothing,  ///< no results
    zeros,    ///< no keys
    sm90,     ///< wgmma and TMA
    sm80,     ///< mma.sync
    f32,      ///< f32 arithmetic, any shape
  };
  Kernel kernel = Kernel::nothing;
  int columns = 0;    ///< of the tile of a head
  int key_block = 0;  ///< keys of a block, where a kernel exists for several
};

/// Keys of a block for heads of more than 64 columns on Hopper. Larger blocks mean fewer of them, and each
/// costs about as much as kBlockCost further keys (the barriers, and the multiplication of the result so
/// far); but the last one may be mostly empty.
constexpr int key_block_sm90(int64_t keys) {
  constexpr int kBlockCost = 8;
  const auto cost = [&](int64_t block) { return (keys + block - 1) / block * (block + kBlockCost); };
  return cost(160) < cost(128) ? 160 : 128;
}

inline AttentionPlan plan_attention(const AttentionArgs& args, bool hopper) {
  using Kernel = AttentionPlan::Kernel;
  const Shape& q = args.q.shape;
  const int64_t dim = q[3], keys = args.k.shape[1];
  if (q.elements() == 0) return {};
  if (keys == 0) return {.kernel = Kernel::zeros};
  // The tensor-core kernels move 16 bytes at a time and count queries, keys and tiles of at least 64 in an
  // int.
  const auto fits = [](int64_t rows) { return rows < INT_MAX - 1024; };
  const bool tensor_cores = args.q.dtype == DType::bf16 && dim % 8 == 0 && fits(q[1]) && fits(keys) &&
                            fits(q[0] * q[2] * ((q[1] + 63) / 64));
  if (tensor_cores && hopper && dim <= (args.bias ? 64 : 128) && args.scale > 0)
    return {.kernel = Kernel::sm90,
            .columns = dim <= 64 ? 64 : 128,
            .key_block = dim <= 64 ? 128 : key_block_sm90(keys)};
  if (tensor_cores && dim <= 256)
    return {.kernel = Kernel::sm80, .columns = dim <= 64 ? 64 : dim <= 128 ? 128 : 256};
  return {.kernel = Kernel::f32};
}

}  // namespace fsv::cuda
