// The arithmetic of the tensor cores: exact products, sums in float.
#pragma once

#include <array>
#include <bit>
#include <cstring>

#include "core/dtype.h"
#include "simulator/units.h"

namespace sim {

constexpr int bytes_of(Element element) { return element == Element::bf16 ? 2 : 1; }

/// k of one wgmma or mma.
constexpr int depth_of(Element element) { return 32 / bytes_of(element); }

inline constexpr std::array<float, 256> kE4m3 = [] {
  std::array<float, 256> table{};
  for (int i = 0; i < 256; i++)
    table[static_cast<size_t>(i)] = fsv::to_float(fsv::F8e4m3{static_cast<uint8_t>(i)});
  return table;
}();

/// `count` stored elements as floats. Inline: most often they are those of one register.
inline void expand(const void* from, int count, Element element, float* to) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  if (element == Element::e4m3) {
    for (int i = 0; i < count; i++) to[i] = kE4m3[bytes[i]];
    return;
  }
  for (int i = 0; i < count; i++) {
    uint16_t half;
    std::memcpy(&half, bytes + 2 * i, sizeof half);
    to[i] = std::bit_cast<float>(uint32_t{half} << 16);
  }
}

/// d[64][n] += aᵀ b of a[depth][64] and b[depth][n].
void multiply(float* d, const float* a, const float* b, int depth, int n);

/// The same as fp8 hardware adds: all products of one instruction and the sum so far are aligned to the
/// largest of them and cut to `bits` bits before they are added. Hopper keeps about 14 (DeepSeek-V3 report),
/// which is why kernels promote their sums.
void multiply_truncated(float* d, const float* a, const float* b, int depth, int n, int bits);

}  // namespace sim
