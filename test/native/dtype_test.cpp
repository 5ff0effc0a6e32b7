// The conversions of core/dtype.h against a slow definition in double precision: decode a code from its
// fields, encode by choosing between the two neighbouring codes. Every code, every midpoint, and the floats
// next to them.
#include "core/dtype.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fsv::Bf16;
using fsv::DType;
using fsv::F8e4m3;

struct Format {
  int exponent_bits;
  int mantissa_bits;
  uint32_t largest;  // code of the largest finite value
};

constexpr Format kBf16{8, 7, 0x7f7f};
constexpr Format kF8{4, 3, 0x7e};

/// Value of a non-negative finite code, from the definition of the format.
double value_of(const Format& format, uint32_t code) {
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(code >> format.mantissa_bits);
  const int mantissa = static_cast<int>(code & ((1u << format.mantissa_bits) - 1));
  const int implicit = exponent > 0 ? 1 << format.mantissa_bits : 0;
  return std::ldexp(implicit + mantissa, (exponent > 0 ? exponent : 1) - bias - format.mantissa_bits);
}

uint32_t encode(const Format& format, float value) {
  return &format == &kBf16 ? fsv::to_bf16(value).bits : fsv::to_f8e4m3(value).bits;
}

uint32_t sign_bit(const Format& format) { return 1u << (format.exponent_bits + format.mantissa_bits); }

/// `magnitude` and its negative both encode to `code` and its negative.
void check_encode(const Format& format, float magnitude, uint32_t code) {
  CHECK(encode(format, magnitude) == code);
  CHECK(encode(format, -magnitude) == (code | sign_bit(format)));
}

/// Every finite code comes back, and between neighbours the nearer one wins, the even one on a tie.
void check_format(const Format& format) {
  for (uint32_t code = 0; code <= format.largest; ++code) {
    const double value = value_of(format, code);
    check_encode(format, static_cast<float>(value), code);
    if (code == format.largest) break;
    const float middle = static_cast<float>((value + value_of(format, code + 1)) / 2);
    CHECK(middle == (value + value_of(format, code + 1)) / 2);  // midpoints are floats
    const float infinity = std::numeric_limits<float>::infinity();
    check_encode(format, middle, code % 2 == 0 ? code : code + 1);
    check_encode(format, std::nextafter(middle, 0.0f), code);
    check_encode(format, std::nextafter(middle, infinity), code + 1);
  }
}

void test_bf16() {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const Bf16 stored{static_cast<uint16_t>(code)};
    const float value = fsv::to_float(stored);
    CHECK(std::bit_cast<uint32_t>(value) == code << 16);
    const bool is_nan = (code & 0x7fff) > 0x7f80;
    CHECK(std::isnan(value) == is_nan);
    CHECK(fsv::to_bf16(value).bits == (is_nan ? code | 0x40 : code));
    if ((code & 0x7fff) <= kBf16.largest)
      CHECK(value == (code >> 15 ? -1.0 : 1.0) * value_of(kBf16, code & 0x7fff));
  }
  check_format(kBf16);

  const float largest = std::numeric_limits<float>::max();
  const float overflow_midpoint = std::bit_cast<float>(0x7f7f8000u);
  check_encode(kBf16, largest, 0x7f80);
  check_encode(kBf16, overflow_midpoint, 0x7f80);
  check_encode(kBf16, std::nextafter(overflow_midpoint, 0.0f), 0x7f7f);
  check_encode(kBf16, std::numeric_limits<float>::infinity(), 0x7f80);
  // A NaN whose payload sits only in the dropped bits must not round to infinity.
  CHECK(fsv::to_bf16(std::bit_cast<float>(0x7f800001u)).bits == 0x7fc0);
  CHECK(fsv::to_bf16(std::bit_cast<float>(0xffffffffu)).bits == 0xffff);
}

void test_f8e4m3() {
  for (uint32_t code = 0; code < 0x100; ++code) {
    const F8e4m3 stored{static_cast<uint8_t>(code)};
    const float value = fsv::to_float(stored);
    const uint32_t magnitude = code & 0x7f;
    CHECK(std::signbit(value) == (code >> 7 == 1));
    CHECK(std::isnan(value) == (magnitude == 0x7f));
    if (magnitude != 0x7f) CHECK(std::fabs(value) == value_of(kF8, magnitude));
    CHECK(fsv::to_f8e4m3(value).bits == code);
  }
  check_format(kF8);

  CHECK(fsv::to_float(F8e4m3{0x7e}) == fsv::kF8e4m3Max);
  CHECK(fsv::to_float(F8e4m3{0x01}) == 0x1p-9f);
  const float infinity = std::numeric_limits<float>::infinity();
  for (float beyond : {449.0f, 464.0f, 480.0f, 1e30f, std::numeric_limits<float>::max(), infinity})
    check_encode(kF8, beyond, 0x7e);
  for (float tiny : {0.0f, std::numeric_limits<float>::denorm_min(), 1e-38f, 1e-20f})
    check_encode(kF8, tiny, 0);
  for (uint32_t nan : {0x7f800001u, 0x7fc00000u, 0x7fffffffu})
    check_encode(kF8, std::bit_cast<float>(nan), 0x7f);
}

/// Floats from anywhere: the chosen code is never further away than its neighbours.
void test_random_floats() {
  std::mt19937 random(1);
  for (int i = 0; i < 200000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()) & 0x7fffffffu);
    if (!std::isfinite(value)) continue;
    for (const Format* format : {&kBf16, &kF8}) {
      const uint32_t code = encode(*format, value);
      if (code > format->largest) continue;  // rounded up to infinity: covered by test_bf16
      const double error = std::fabs(value_of(*format, code) - value);
      if (code > 0) CHECK(error <= std::fabs(value_of(*format, code - 1) - value));
      if (code < format->largest) CHECK(error <= std::fabs(value_of(*format, code + 1) - value));
    }
  }
}

void test_names() {
  for (DType dtype : fsv::kDTypes) CHECK(fsv::parse_dtype(fsv::name_of(dtype)) == dtype);
  for (const char* wrong : {"", "F32", "f16", "bf16 ", "f8", "float32"}) CHECK(!fsv::parse_dtype(wrong));
  CHECK(fsv::size_of(DType::f32) == sizeof(float) && fsv::size_of(DType::i32) == sizeof(int32_t));
  CHECK(fsv::size_of(DType::bf16) == sizeof(Bf16) && fsv::size_of(DType::f8e4m3) == sizeof(F8e4m3));
  CHECK(fsv::size_of(DType::u8) == 1);
}

/// Usable in constant expressions, and generic code finds its way by type.
static_assert(fsv::to_float(fsv::to_bf16(1.0f)) == 1.0f);
static_assert(fsv::to_float(fsv::to_f8e4m3(-0.0625f)) == -0.0625f);
static_assert(fsv::from_float<Bf16>(2.5f).bits == fsv::to_bf16(2.5f).bits);
static_assert(fsv::from_float<F8e4m3>(2.5f).bits == fsv::to_f8e4m3(2.5f).bits);
static_assert(fsv::from_float<float>(0.1f) == 0.1f);
static_assert(fsv::dtype_of<Bf16>() == DType::bf16 && fsv::dtype_of<F8e4m3>() == DType::f8e4m3);

}  // namespace

int main() {
  test_bf16();
  test_f8e4m3();
  test_random_floats();
  test_names();
  return check::finish();
}
