// Division by a number that is the same for a whole launch.
#pragma once

#include <bit>
#include <cstdint>

#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::kernels {

/// A multiplication and a shift in place of a division (Granlund and Montgomery, PLDI 1994): exact for
/// dividends and divisors below 2^31. With 2^s the next power of two, factor = ceil(2^(31 + s) / divisor) is
/// less than divisor <= 2^s too large after scaling, which a dividend below 2^31 cannot carry into the
/// quotient.
struct Divisor {
  uint32_t divisor = 1, factor = 1u << 31, shift = 31;

  Divisor() = default;
  explicit constexpr Divisor(int64_t by) : divisor(static_cast<uint32_t>(by)) {
    shift = 31 + static_cast<uint32_t>(std::bit_width(divisor - 1));
    factor = static_cast<uint32_t>(((uint64_t{1} << shift) + divisor - 1) / divisor);
  }

  FSV_HOST_DEVICE uint32_t quotient(uint32_t dividend) const {
    return static_cast<uint32_t>(uint64_t{dividend} * factor >> shift);
  }
  FSV_HOST_DEVICE uint32_t rest(uint32_t dividend) const { return dividend - quotient(dividend) * divisor; }
};

}  // namespace fsv::cuda::kernels
