// The arithmetic of the tensor cores: exact products, sums in float.
#pragma once

#include "simulator/units.h"

namespace sim {

constexpr int bytes_of(Element element) { return element == Element::bf16 ? 2 : 1; }

/// k of one wgmma or mma.
constexpr int depth_of(Element element) { return 32 / bytes_of(element); }

/// `count` stored elements as floats.
void expand(const void* from, int count, Element element, float* to);

/// d[64][n] += aᵀ b of a[depth][64] and b[depth][n].
void multiply(float* d, const float* a, const float* b, int depth, int n);

/// The same as fp8 hardware adds: all products of one instruction and the sum so far are aligned to the
/// largest of them and cut to `bits` bits before they are added. Hopper keeps about 14 (DeepSeek-V3 report),
/// which is why kernels promote their sums.
void multiply_truncated(float* d, const float* a, const float* b, int depth, int n, int bits);

}  // namespace sim
