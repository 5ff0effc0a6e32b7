#include "simulator/engine/multiply.h"

#include <cmath>
#include <cstring>

namespace sim {
namespace {

constexpr int kRows = 64, kTile = 4;
typedef float Vector __attribute__((vector_size(32), aligned(4)));
constexpr int kLanes = sizeof(Vector) / sizeof(float);

}  // namespace

void multiply(float* d, const float* a, const float* b, int depth, int n) {
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
