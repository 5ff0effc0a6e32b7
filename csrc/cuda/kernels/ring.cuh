// A place in a ring of shared-memory slots, each with a barrier for "full" and one for "empty".
#pragma once

#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

/// Consumers wait for `parity` of a full barrier, producers for its opposite of an empty one: so the first
/// round of slots counts as empty.
struct RingPlace {
  uint32_t slot = 0, parity = 0;

  FSV_DEVICE void advance(uint32_t slots) {
    if (++slot < slots) return;
    slot = 0;
    parity ^= 1;
  }
};

}  // namespace fsv::cuda::kernels
