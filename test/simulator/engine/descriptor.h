// Operands of wgmma in shared memory: where a matrix descriptor says that each 16-byte unit lies.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cuda/ptx/layout.cuh"
#include "simulator/engine/multiply.h"
#include "simulator/units.h"

namespace sim {

class Operand {
 public:
  Operand() = default;
  Operand(uint64_t descriptor, int major) : descriptor_(descriptor), k_major_(major == fsv::ptx::K_MAJOR) {}

  uint32_t address() const { return field(0) << 4; }
  uint32_t base_offset() const { return static_cast<uint32_t>(descriptor_ >> 49) & 7; }

  /// Whether the rows begin elsewhere than where the swizzle's pattern does.
  bool starts_mid_atom() const {
    if (swizzle() == fsv::ptx::SW_NONE) return false;
    const uint32_t pattern = 8 * span(), offset = swizzle() == fsv::ptx::SW_128 ? base_offset() << 7 : 0;
    return (address() - offset) % pattern >= span();
  }

  /// Calls visit(offset, bytes) for runs of bytes that together are all of `extent` rows (of m or n).
  template <class Visit>
  void for_each_run(int extent, Element element, Visit visit) const {
    if (k_major_) {
      for (int row = 0; row < extent; row++) {
        const uint32_t first = unit(row, 0), second = unit(row, 1);
        if ((first ^ second) == 16) {
          visit(std::min(first, second), 32);
        } else {
          visit(first, 16);
          visit(second, 16);
        }
      }
      return;
    }
    const int together = std::min(extent, static_cast<int>(span() / 2));
    const bool whole = together * 2 == static_cast<int>(span());
    for (int k = 0; k < depth_of(element); k++) {
      for (int row = 0; row < extent; row += whole ? together : 8) {
        const uint32_t first = unit(row, k);
        visit(whole ? first & ~(span() - 1) : first, whole ? span() : 16);
      }
    }
  }

  /// The values as [depth][extent].
  void gather(const std::vector<uint8_t>& smem, int extent, Element element, float* out) const {
    const int each = 16 / bytes_of(element);
    float values[16];
    if (k_major_) {
      for (int row = 0; row < extent; row++) {
        for (int u = 0; u < 2; u++) {
          expand(&smem[unit(row, u)], each, element, values);
          for (int e = 0; e < each; e++) out[(u * each + e) * extent + row] = values[e];
        }
      }
      return;
    }
    for (int k = 0; k < depth_of(element); k++) {
      for (int row = 0; row < extent; row += each)
        expand(&smem[unit(row, k)], each, element, out + k * extent + row);
    }
  }

 private:
  uint32_t field(int bit) const { return static_cast<uint32_t>(descriptor_ >> bit) & 0x3FFF; }
  fsv::ptx::Swizzle swizzle() const { return static_cast<fsv::ptx::Swizzle>(descriptor_ >> 62); }
  uint32_t span() const { return fsv::ptx::swizzle_span(swizzle()); }

  /// K-major: unit k of row `row`. MN-major: the unit of rows from `row` at index k.
  uint32_t unit(int row, int k) const {
    const uint32_t leading = field(16) << 4, stride = field(32) << 4, wide = span() / 16;
    const bool swizzled = swizzle() != fsv::ptx::SW_NONE;
    const auto r = static_cast<uint32_t>(row), c = static_cast<uint32_t>(k);
    uint32_t at = address();
    if (k_major_) {
      at += r / 8 * stride + r % 8 * span() + c * (swizzled ? 16 : leading);
    } else if (swizzled) {
      at += r / (8 * wide) * leading + r / 8 % wide * 16 + c % 8 * span() + c / 8 * stride;
    } else {
      at += r / 8 * stride + c % 8 * 16 + c / 8 * leading;
    }
    return at ^
           ((fsv::ptx::swizzle(swizzle(), at - (base_offset() << 7)) ^ (at - (base_offset() << 7))) & 0x70);
  }

  uint64_t descriptor_ = 0;
  bool k_major_ = true;
};

}  // namespace sim
