#include "simulator/engine/multiply.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/dtype.h"

// The inner loop is compiled for the instruction sets that matter and picked at run time. Products of
// bfloat16 or fp8 are exact in float, so fused multiply-adds change nothing.
#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
#define SIM_CLONES __attribute__((target_clones("avx512f", "avx2,fma", "default")))
#else
#define SIM_CLONES
#endif

namespace sim {
namespace {

constexpr int kRows = 64, kTile = 4;
typedef float Vector __attribute__((vector_size(32), aligned(4)));
constexpr int kLanes = sizeof(Vector) / sizeof(float);

constexpr std::array<float, 256> kE4m3 = [] {
  std::array<float, 256> table{};
  for (int i = 0; i < 256; i++)
    table[static_cast<size_t>(i)] = fsv::to_float(fsv::F8e4m3{static_cast<uint8_t>(i)});
  return table;
}();

}  // namespace

void expand(const void* from, int count, Element element, float* to) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  for (int i = 0; i < count; i++) {
    if (element == Element::e4m3) {
      to[i] = kE4m3[bytes[i]];
    } else {
      uint16_t half;
      std::memcpy(&half, bytes + 2 * i, sizeof half);
      to[i] = std::bit_cast<float>(uint32_t{half} << 16);
    }
  }
}

SIM_CLONES void multiply(float* d, const float* a, const float* b, int depth, int n) {
  for (int i = 0; i < kRows; i += kTile) {
    for (int j = 0; j < n; j += kLanes) {
      Vector sums[kTile];
      for (int r = 0; r < kTile; r++) std::memcpy(&sums[r], d + (i + r) * n + j, sizeof(Vector));
      for (int k = 0; k < depth; k++) {
        Vector row;
        std::memcpy(&row, b + k * n + j, sizeof row);
        for (int r = 0; r < kTile; r++) sums[r] += a[k * kRows + i + r] * row;
      }
      for (int r = 0; r < kTile; r++) std::memcpy(d + (i + r) * n + j, &sums[r], sizeof(Vector));
    }
  }
}

void multiply_truncated(float* d, const float* a, const float* b, int depth, int n, int bits) {
  for (int i = 0; i < kRows; i++) {
    for (int j = 0; j < n; j++) {
      float& sum = d[i * n + j];
      float largest = std::fabs(sum);
      for (int k = 0; k < depth; k++)
        largest = std::fmax(largest, std::fabs(a[k * kRows + i] * b[k * n + j]));
      if (!(largest > 0) || !std::isfinite(largest)) {
        for (int k = 0; k < depth; k++) sum += a[k * kRows + i] * b[k * n + j];
        continue;
      }
      const float unit = std::ldexp(1.0f, std::ilogb(largest) + 1 - bits);
      const auto cut = [&](float x) { return std::trunc(x / unit) * unit; };
      double total = cut(sum);
      for (int k = 0; k < depth; k++) total += cut(a[k * kRows + i] * b[k * n + j]);
      sum = static_cast<float>(total);
    }
  }
}

}  // namespace sim
