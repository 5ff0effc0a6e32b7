// Random numbers that are the same bits on every backend: counter-based, so that any element can be made on
// its own, and normal numbers from our own logarithm, sine and cosine, so that no library of mathematics has
// a say in them.
//
// Element i of stream `stream` of a sample with seed `seed` is number i % 4 of normal4(seed, stream, i / 4):
// Philox 4x32-10 of "Parallel random numbers: as easy as 1, 2, 3" (Salmon et al., SC 2011) with key = seed
// and counter = (i / 4, stream), little words first, gives u0..u3; the pairs (u0, u1) and (u2, u3) become
// r cos a, r sin a with r = sqrt(-2 ln((u0 + 1/2) 2^-32)) and a = 2 pi u1 2^-32 (Box and Muller).
//
// Why the bits agree: only integers and IEEE operations that round correctly everywhere (+, -, x, fma, square
// root). A compiler may fuse a product into the sum that uses it, and g++ and nvcc do unless told otherwise;
// so wherever a product meets a sum the fma is written out. There are no branches: a loop over i / 4
// vectorises (in g++ with -fno-math-errno, which frees the square root and changes no value).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __FAST_MATH__
#error "random.h: -ffast-math would change the random numbers"
#endif

#ifdef __CUDACC__
#define FSV_HD __host__ __device__ inline
#else
#define FSV_HD inline
#endif

namespace fsv {

/// One block of Philox 4x32-10: `counter` becomes four random words.
FSV_HD void philox4x32_10(uint32_t counter[4], const uint32_t key[2]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;  // golden ratio
    k1 += 0xBB67AE85u;  // sqrt(3) - 1
  }
  counter[0] = c0, counter[1] = c1, counter[2] = c2, counter[3] = c3;
}

namespace random_detail {

FSV_HD uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

FSV_HD float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Correctly rounded whatever the flags: nvcc -use_fast_math would replace sqrtf.
FSV_HD float square_root(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return sqrtf(x);
#endif
}

/// ln u for u in [2^-126, 1], to 1 ulp; never above 0. With u = 2^e m, m in [sqrt(1/2), sqrt(2)), f = m - 1:
/// ln u = e ln 2 + f - f^2/2 + f^3 P(f), P the polynomial of degree 7 with the least relative error, 6e-9.
FSV_HD float log_unit(float u) {
  constexpr uint32_t kSqrtHalf = 0x3f3504f3u;
  const uint32_t offset = bits_of(u) - kSqrtHalf;
  const float e = static_cast<float>(static_cast<int32_t>(offset) >> 23);
  const float f = float_of((offset & 0x7fffffu) + kSqrtHalf) - 1.0f;
  float p = fmaf(f, -7.634502649e-02f, 1.276157796e-01f);
  p = fmaf(f, p, -1.316018105e-01f);
  p = fmaf(f, p, 1.420175731e-01f);
  p = fmaf(f, p, -1.662335694e-01f);
  p = fmaf(f, p, 2.000122666e-01f);
  p = fmaf(f, p, -2.500081956e-01f);
  p = fmaf(f, p, 3.333333135e-01f);
  const float f2 = f * f;
  // ln 2 in two parts, the first short enough that e times it is exact.
  float rest = fmaf(e, -2.12194440e-4f, (f * f2) * p);
  rest = fmaf(-0.5f, f2, rest);
  return fmaf(e, 0.693359375f, f + rest);
}

/// cos and sin of the angle 2 pi turn / 2^32, to 1.5 ulp. The nearest quarter turn is taken off in integers,
/// which leaves t half turns in [-1/4, 1/4): sin(pi t) = t (pi + t^2 S(t^2)), cos(pi t) = 1 + t^2 C(t^2),
/// S and C again polynomials of least error (4e-9 and 5e-11).
FSV_HD void cos_sin(uint32_t turn, float& cosine, float& sine) {
  const uint32_t quarter = (turn + 0x20000000u) >> 30;
  const float t = static_cast<float>(static_cast<int32_t>(turn - (quarter << 30))) * 0x1p-31f;
  const float t2 = t * t;
  float s = fmaf(t2, -5.894796848e-01f, 2.549810648e+00f);
  s = fmaf(t2, s, -5.167709351e+00f);
  s = fmaf(t2, s, -8.742277657e-08f);  // pi less the float nearest to it
  s = fmaf(t, 3.141592741e+00f, t * s);
  float c = fmaf(t2, 2.314295471e-01f, -1.335058451e+00f);
  c = fmaf(t2, c, 4.058707714e+00f);
  c = fmaf(t2, c, -4.934802055e+00f);
  c = fmaf(t2, c, 1.0f);
  // A quarter turn makes cos into -sin and sin into cos; masks in place of branches.
  const uint32_t swap = 0u - (quarter & 1u);
  const uint32_t different = (bits_of(s) ^ bits_of(c)) & swap;
  cosine = float_of(bits_of(c) ^ different ^ (((quarter + 1u) & 2u) << 30));
  sine = float_of(bits_of(s) ^ different ^ ((quarter & 2u) << 30));
}

/// Two independent normal numbers from two random words. |result| < 6.77.
FSV_HD void box_muller(uint32_t word, uint32_t turn, float& first, float& second) {
  // In [2^-33, 1]: the logarithm is finite.
  const float u = fmaf(static_cast<float>(word), 0x1p-32f, 0x1p-33f);
  const float radius = square_root(-2.0f * log_unit(u));
  float cosine, sine;
  cos_sin(turn, cosine, sine);
  // Adding 0 keeps a caller's sum from being fused with the bare product.
  first = fmaf(radius, cosine, 0.0f);
  second = fmaf(radius, sine, 0.0f);
}

}  // namespace random_detail

/// The standard normal numbers of elements 4 * index4 .. 4 * index4 + 3 of a stream.
FSV_HD void normal4(uint64_t seed, uint64_t stream, uint64_t index4, float out[4]) {
  uint32_t words[4] = {static_cast<uint32_t>(index4), static_cast<uint32_t>(index4 >> 32),
                       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  const uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  philox4x32_10(words, key);
  random_detail::box_muller(words[0], words[1], out[0], out[1]);
  random_detail::box_muller(words[2], words[3], out[2], out[3]);
}

}  // namespace fsv
