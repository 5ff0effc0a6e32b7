// Integer facts about shared-memory layouts, the same for TMA, wgmma and our own addressing.
#pragma once

#include <cstdint>

#include "cuda/ptx/target.cuh"

namespace fsv::ptx {

/// How 16-byte chunks are permuted inside atoms of eight rows; the values are those of the wgmma descriptor.
enum Swizzle : int { SW_NONE = 0, SW_128 = 1, SW_64 = 2, SW_32 = 3 };

/// Which index of an operand is contiguous: k, or m (of A) and n (of B).
enum Major : int { K_MAJOR = 0, MN_MAJOR = 1 };

/// Bytes of a swizzled row; of an unswizzled one the 16 of a core matrix.
FSV_HOST_DEVICE constexpr uint32_t swizzle_span(Swizzle s) {
  return s == SW_128 ? 128 : s == SW_64 ? 64 : s == SW_32 ? 32 : 16;
}

/// Where the byte meant for `address` lies. Acts on absolute shared-memory addresses, so an atom must be
/// aligned to its size, 8 * swizzle_span.
FSV_HOST_DEVICE constexpr uint32_t swizzle(Swizzle s, uint32_t address) {
  const uint32_t mask = s == SW_128 ? 0x70 : s == SW_64 ? 0x30 : s == SW_32 ? 0x10 : 0;
  return address ^ ((address >> 3) & mask);
}

/// The wgmma matrix descriptor. K-major: stride_bytes from one group of eight rows to the next; leading_bytes
/// between core matrices along k, unswizzled only. MN-major: leading_bytes between atoms along m or n,
/// stride_bytes along k; unswizzled the other way round. base_offset: bits 7-9 of the address where the atom
/// begins, 0 for aligned atoms.
FSV_HOST_DEVICE constexpr uint64_t gmma_desc(uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes,
                                             Swizzle s, uint32_t base_offset = 0) {
  return uint64_t{(address & 0x3FFFF) >> 4} | uint64_t{(leading_bytes & 0x3FFFF) >> 4} << 16 |
         uint64_t{(stride_bytes & 0x3FFFF) >> 4} << 32 | uint64_t{base_offset & 7} << 49 |
         static_cast<uint64_t>(s) << 62;
}

FSV_HOST_DEVICE constexpr uint32_t align_up(uint32_t x, uint32_t alignment) {
  return (x + alignment - 1) & ~(alignment - 1);
}

}  // namespace fsv::ptx
