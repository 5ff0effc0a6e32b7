// core/random.h: the generator against its published vectors, the functions against double precision, the
// numbers against the normal distribution, and all bits against a fingerprint that no compiler, flag or
// backend may change.
#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "check.h"

namespace {

/// kat_vectors of the Random123 library 1.09, philox4x32 with 10 rounds.
void known_answers() {
  struct Vector {
    uint32_t counter[4], key[2], expected[4];
  };
  constexpr Vector kVectors[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Vector& v : kVectors) {
    uint32_t words[4];
    std::copy_n(v.counter, 4, words);
    fsv::philox4x32_10(words, v.key);
    CHECK(std::equal(words, words + 4, v.expected));
  }
}

/// Distance in units of the last place that a float of the exact value's size has.
double ulps(float got, double exact) {
  const double size = std::max(std::abs(exact), 0x1p-126);
  return std::abs(got - exact) / std::ldexp(1.0, std::ilogb(size) - 23);
}

void functions() {
  double worst_log = 0, worst_cos = 0, worst_sin = 0;
  const auto log_at = [&](float u) {
    const float got = fsv::random_detail::log_unit(u);
    CHECK(got <= 0);
    worst_log = std::max(worst_log, ulps(got, std::log(static_cast<double>(u))));
  };
  const auto turn_at = [&](uint32_t turn) {
    float cosine, sine;
    fsv::random_detail::cos_sin(turn, cosine, sine);
    const double angle = 2 * std::numbers::pi * (turn * 0x1p-32);
    // Near its zeros the value in double loses digits of its own: there an absolute bound, tiny beside 1.
    const double exact_cos = std::cos(angle), exact_sin = std::sin(angle);
    worst_cos = std::max(worst_cos, std::min(ulps(cosine, exact_cos), std::abs(cosine - exact_cos) / 1e-15));
    worst_sin = std::max(worst_sin, std::min(ulps(sine, exact_sin), std::abs(sine - exact_sin) / 1e-15));
  };
  for (uint64_t word = 0; word < uint64_t{1} << 32; word += 4093) {
    log_at(std::fma(static_cast<float>(word), 0x1p-32f, 0x1p-33f));
    turn_at(static_cast<uint32_t>(word));
  }
  for (uint32_t near = 0; near < 2000; ++near) {
    log_at(std::fma(static_cast<float>(near), 0x1p-32f, 0x1p-33f));
    log_at(1.0f - static_cast<float>(near) * 0x1p-24f);
    for (uint32_t eighth = 0; eighth < 8; ++eighth) turn_at((eighth << 29) + near - 1000);
  }
  CHECK(fsv::random_detail::log_unit(1.0f) == 0);
  std::printf("error in ulp: log %.2f, cos %.2f, sin %.2f\n", worst_log, worst_cos, worst_sin);
  CHECK(worst_log < 1);
  CHECK(worst_cos < 1.5);
  CHECK(worst_sin < 1.5);
}

/// Element by element after the formula of the header's comment, in double precision.
void places() {
  struct Place {
    uint64_t seed, stream, index4;
  };
  constexpr Place kPlaces[] = {{0, 0, 0},
                               {1, 0, 0},
                               {0, 1, 0},
                               {0, 0, 1},
                               {0x123456789abcdef0, 0xfedcba9876543210, 0x0f1e2d3c4b5a6978}};
  for (const Place& place : kPlaces) {
    uint32_t words[4] = {static_cast<uint32_t>(place.index4), static_cast<uint32_t>(place.index4 >> 32),
                         static_cast<uint32_t>(place.stream), static_cast<uint32_t>(place.stream >> 32)};
    const uint32_t key[2] = {static_cast<uint32_t>(place.seed), static_cast<uint32_t>(place.seed >> 32)};
    fsv::philox4x32_10(words, key);
    float got[4];
    fsv::normal4(place.seed, place.stream, place.index4, got);
    for (int pair = 0; pair < 2; ++pair) {
      const double radius = std::sqrt(-2 * std::log((words[2 * pair] + 0.5) * 0x1p-32));
      const double angle = 2 * std::numbers::pi * (words[2 * pair + 1] * 0x1p-32);
      CHECK(std::abs(got[2 * pair] - radius * std::cos(angle)) < 1e-6);
      CHECK(std::abs(got[2 * pair + 1] - radius * std::sin(angle)) < 1e-6);
    }
  }
}

std::vector<float> normals(size_t count, uint64_t seed, uint64_t stream, uint64_t first4 = 0) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count / 4; ++i) fsv::normal4(seed, stream, first4 + i, &values[4 * i]);
  return values;
}

/// Mean of a product of powers, in standard errors away from what the normal distribution gives.
template <class F>
double z_score(size_t count, F&& value, double mean, double variance) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += value(i);
  return (sum / count - mean) / std::sqrt(variance / count);
}

/// Fixed seeds, so each bound either always holds or never; five standard errors are rare by chance (6e-7).
void distribution() {
  constexpr size_t kCount = 1 << 20;
  const std::vector<float> x = normals(kCount, 42, 0);
  const std::vector<float> other_stream = normals(kCount, 42, 1), other_seed = normals(kCount, 43, 0);
  const auto power = [&](int n) {
    return [&x, n](size_t i) { return std::pow(static_cast<double>(x[i]), n); };
  };
  CHECK(std::abs(z_score(kCount, power(1), 0, 1)) < 5);
  CHECK(std::abs(z_score(kCount, power(2), 1, 2)) < 5);
  CHECK(std::abs(z_score(kCount, power(3), 0, 15)) < 5);
  CHECK(std::abs(z_score(kCount, power(4), 3, 96)) < 5);
  for (size_t lag : {1, 2, 3, 4, 1024})
    CHECK(std::abs(z_score(
              kCount - lag, [&](size_t i) { return double{x[i]} * x[i + lag]; }, 0, 1)) < 5);
  CHECK(std::abs(z_score(
            kCount, [&](size_t i) { return double{x[i]} * other_stream[i]; }, 0, 1)) < 5);
  CHECK(std::abs(z_score(
            kCount, [&](size_t i) { return double{x[i]} * other_seed[i]; }, 0, 1)) < 5);

  // Kolmogorov and Smirnov: the largest gap between the distribution functions; sqrt(n) gap > 2.5 has odds
  // 7e-6.
  std::vector<float> sorted = x;
  std::sort(sorted.begin(), sorted.end());
  double gap = 0;
  for (size_t i = 0; i < kCount; ++i) {
    const double expected = 0.5 * std::erfc(-sorted[i] / std::numbers::sqrt2);
    gap = std::max(
        {gap, expected - static_cast<double>(i) / kCount, static_cast<double>(i + 1) / kCount - expected});
  }
  CHECK(gap * std::sqrt(kCount) < 2.5);
  CHECK(sorted.front() < -4.5f && sorted.back() > 4.5f);
}

[[gnu::noinline]] float number(uint64_t index4) {
  float x[4];
  fsv::normal4(5, 0, index4, x);
  return x[0];
}

/// Inlines the generator into a sum.
[[gnu::noinline]] float number_plus(float other, uint64_t index4) {
  float x[4];
  fsv::normal4(5, 0, index4, x);
  return other + x[0];
}

/// A caller's sum must not be fused with the product that made the number.
void sums() {
  for (uint64_t index4 = 0; index4 < 1000; ++index4)
    CHECK(number_plus(0.1f, index4) == 0.1f + number(index4));
}

constexpr uint64_t kFingerprint = 0x9bfba6394b26a514u;

/// FNV-1a over the bits of the numbers, across the border where the high word of the counter changes.
void fingerprint() {
  uint64_t hash = 0xcbf29ce484222325u;
  for (float value : normals(1 << 20, 0x0123456789abcdef, 7, (uint64_t{1} << 32) - (1 << 17)))
    hash = (hash ^ fsv::random_detail::bits_of(value)) * 0x100000001b3u;
  if (hash != kFingerprint) std::printf("fingerprint %016llx\n", static_cast<unsigned long long>(hash));
  CHECK(hash == kFingerprint);
}

}  // namespace

int main() {
  known_answers();
  functions();
  places();
  distribution();
  sums();
  fingerprint();
  return check::finish();
}
