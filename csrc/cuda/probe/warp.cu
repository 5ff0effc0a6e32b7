// What one warp does, on every card from Ampere on: matrices of shared memory, products, shuffles, votes,
// conversions.
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "cuda/probe/probe.h"
#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::probe {
namespace {

using namespace fsv::ptx;

constexpr int kLanes = 32;

/// Four 8x8 matrices of halves, row r of matrix m at 16 (8 m + r); each lane's registers by every load.
FSV_KERNEL void load_matrices(const uint4* image, uint32_t* out) {
  const uint32_t t = threadIdx.x, base = align_up(smem_base(), 16);
  sts(base + 16 * t, ldg(image + t));
  syncwarp();
  uint32_t one[1], two[2], four[4];
  uint32_t* to = out + 14 * t;
  ldmatrix_x1(one, base + 16 * t);
  stg(to, one[0]);
  ldmatrix_x1_trans(one, base + 16 * t);
  stg(to + 1, one[0]);
  ldmatrix_x2(two, base + 16 * t);
  for (int i = 0; i < 2; i++) stg(to + 2 + i, two[i]);
  ldmatrix_x2_trans(two, base + 16 * t);
  for (int i = 0; i < 2; i++) stg(to + 4 + i, two[i]);
  ldmatrix_x4(four, base + 16 * t);
  for (int i = 0; i < 4; i++) stg(to + 6 + i, four[i]);
  ldmatrix_x4_trans(four, base + 16 * t);
  for (int i = 0; i < 4; i++) stg(to + 10 + i, four[i]);
}

/// Registers 100 lane + i stored by every stmatrix, one after another.
FSV_KERNEL void store_matrices(uint4* out) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  const uint32_t t = threadIdx.x, base = align_up(smem_base(), 16), r = 0x10001 * 100 * t;
  for (int i = 0; i < 14; i++) sts(base + 128 * i + 4 * t, 0u);
  syncwarp();
  stmatrix_x1(base + 16 * (t % 8), r);
  stmatrix_x1_trans(base + 128 + 16 * (t % 8), r);
  stmatrix_x2(base + 256 + 16 * (t % 16), r, r + 1);
  stmatrix_x2_trans(base + 512 + 16 * (t % 16), r, r + 1);
  stmatrix_x4(base + 768 + 16 * t, r, r + 1, r + 2, r + 3);
  stmatrix_x4_trans(base + 1280 + 16 * t, r, r + 1, r + 2, r + 3);
  syncwarp();
  for (int i = 0; i < 14; i++) {
    if (t < 8) stg(out + 8 * i + t, lds<uint4>(base + 128 * i + 16 * t));
  }
#endif
}

/// d = 1 + a b of 16x8 results, by fragments.
template <bool kFp8>
FSV_KERNEL void multiply(const uint32_t* a, const uint32_t* b, float* out) {
  const uint32_t t = threadIdx.x;
  uint32_t left[4], right[2];
  float d[4] = {1, 1, 1, 1};
  for (int r = 0; r < 4; r++) left[r] = ldg(a + kLanes * r + t);
  for (int r = 0; r < 2; r++) right[r] = ldg(b + kLanes * r + t);
  if constexpr (kFp8) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
    mma_m16n8k32_e4m3(d, left, right);
#endif
  } else {
    mma_m16n8k16_bf16(d, left, right);
  }
  for (int i = 0; i < 4; i++) stg(out + (t / 4 + i / 2 * 8) * 8 + t % 4 * 2 + i % 2, d[i]);
}

FSV_KERNEL void exchange(float* out) {
  const int t = threadIdx.x;
  const float x = static_cast<float>(t);
  const double wide = 1000.5 + t;
  float* to = out + 10 * t;
  stg(to, shfl_xor(x, 5));
  stg(to + 1, shfl(x, (t * 7 + 3) % 32));
  stg(to + 2, shfl_up(x, 3));
  stg(to + 3, shfl_down(x, 30));
  stg(to + 4, static_cast<float>(shfl_xor(wide, 16)));
  stg(to + 5, static_cast<float>(vote_ballot(t % 3 == 0) >> 16));
  stg(to + 6, vote_any(t == 31) ? 1.0f : 0.0f);
  stg(to + 7, vote_any(t == 32) ? 1.0f : 0.0f);
  stg(to + 8, vote_all(t < 32) ? 1.0f : 0.0f);
  stg(to + 9, vote_all(t < 31) ? 1.0f : 0.0f);
}

/// Conversions and approximations of x: bf16, e4m3 (as stored), and 2^x, log2, tanh, 1/x, 1/sqrt x.
FSV_KERNEL void convert(const float* in, uint32_t* stored, float* out, int count) {
  for (int i = threadIdx.x; i < count; i += kLanes) {
    const float x = ldg(in + i);
    const uint32_t half = pack_bf16(x, -x), quarter = pack_e4m3(x, -x);
    stg(stored + 2 * i, half);
    stg(stored + 2 * i + 1, quarter);
    stg(out + 9 * i, bf16_lo(half));
    stg(out + 9 * i + 1, bf16_hi(half));
    stg(out + 9 * i + 2, e4m3_lo(quarter));
    stg(out + 9 * i + 3, e4m3_hi(quarter));
    stg(out + 9 * i + 4, ex2(x));
    stg(out + 9 * i + 5, lg2(x));
    stg(out + 9 * i + 6, tanh_fast(x));
    stg(out + 9 * i + 7, rcp_fast(x));
    stg(out + 9 * i + 8, rsqrt_fast(x));
  }
}

void matrix_facts(Probe& probe, bool stores) {
  std::vector<uint16_t> halves(4 * 64);
  for (size_t i = 0; i < halves.size(); i++) halves[i] = static_cast<uint16_t>(i);
  std::vector<uint4> image(kLanes);
  std::memcpy(image.data(), halves.data(), sizeof(uint4) * kLanes);
  const Array<uint4> source(image);
  const Array<uint32_t> registers(14 * kLanes);
  run(load_matrices, 1, kLanes, 1024, source.data(), registers.data());
  // Register m of lane l: elements 2 (l % 4) and the next of row l / 4 of matrix m, or of its transpose.
  std::vector<float> want, got;
  const auto all = registers.read();
  for (int lane = 0; lane < kLanes; lane++) {
    for (const auto& [matrices, transposed] : {std::pair{1, 0}, {1, 1}, {2, 0}, {2, 1}, {4, 0}, {4, 1}}) {
      for (int m = 0; m < matrices; m++) {
        for (int half = 0; half < 2; half++) {
          const int row = lane / 4, column = lane % 4 * 2 + half;
          want.push_back(static_cast<float>(64 * m + (transposed ? column * 8 + row : row * 8 + column)));
        }
      }
    }
  }
  for (const uint32_t word : all) {
    got.push_back(static_cast<float>(word & 0xffff));
    got.push_back(static_cast<float>(word >> 16));
  }
  probe.equal("ldmatrix of 1, 2 and 4 matrices, plain and transposed", got, want);
  if (!stores) return;

  const Array<uint4> stored(14 * 8);
  run(store_matrices, 1, kLanes, 4096, stored.data());
  std::vector<uint16_t> out(14 * 64), expected(14 * 64);
  const auto words = stored.read();
  std::memcpy(out.data(), words.data(), 2 * out.size());
  size_t first = 0;
  for (const auto& [matrices, transposed] : {std::pair{1, 0}, {1, 1}, {2, 0}, {2, 1}, {4, 0}, {4, 1}}) {
    for (int m = 0; m < matrices; m++, first += 64) {
      for (int row = 0; row < 8; row++) {
        for (int column = 0; column < 8; column++) {
          const int i = transposed ? column : row, j = transposed ? row : column, lane = i * 4 + j / 2;
          const uint32_t word = static_cast<uint32_t>(0x10001 * 100 * lane + m);
          expected[first + static_cast<size_t>(row * 8 + column)] =
              static_cast<uint16_t>(j % 2 ? word >> 16 : word);
        }
      }
    }
  }
  probe.equal("stmatrix of 1, 2 and 4 matrices, plain and transposed",
              std::vector<float>(out.begin(), out.end()),
              std::vector<float>(expected.begin(), expected.end()));
}

template <bool kFp8>
void product_facts(Probe& probe) {
  constexpr int kEach = kFp8 ? 4 : 2, kDepth = 8 * kEach;
  const auto a = [](int row, int k) { return small(static_cast<size_t>(row * kDepth + k)); };
  const auto b = [](int column, int k) { return small(static_cast<size_t>(5000 + column * kDepth + k)); };
  const auto pack = [](auto element) {
    uint32_t word = 0;
    for (int e = 0; e < kEach; e++) {
      const float x = element(e);
      word |= (kFp8 ? uint32_t{to_f8e4m3(x).bits} : uint32_t{to_bf16(x).bits}) << (32 / kEach * e);
    }
    return word;
  };
  std::vector<uint32_t> left, right;
  for (int r = 0; r < 4; r++) {
    for (int l = 0; l < kLanes; l++) {
      left.push_back(
          pack([&](int e) { return a(l / 4 + r % 2 * 8, l % 4 * kEach + r / 2 * 4 * kEach + e); }));
    }
  }
  for (int r = 0; r < 2; r++) {
    for (int l = 0; l < kLanes; l++) {
      right.push_back(pack([&](int e) { return b(l / 4, l % 4 * kEach + r * 4 * kEach + e); }));
    }
  }
  std::vector<float> want;
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      float sum = 1;
      for (int k = 0; k < kDepth; k++) sum += a(row, k) * b(column, k);
      want.push_back(sum);
    }
  }
  const Array<uint32_t> a_fragments(left), b_fragments(right);
  const Array<float> out(16 * 8);
  run(multiply<kFp8>, 1, kLanes, 0, a_fragments.data(), b_fragments.data(), out.data());
  probe.equal(kFp8 ? "mma.sync of e4m3" : "mma.sync of bf16", out.read(), want);
}

void exchange_facts(Probe& probe) {
  const Array<float> out(10 * kLanes);
  run(exchange, 1, kLanes, 0, out.data());
  std::vector<float> want;
  uint32_t thirds = 0;
  for (int t = 0; t < kLanes; t++) thirds |= static_cast<uint32_t>(t % 3 == 0) << t;
  for (int t = 0; t < kLanes; t++) {
    const int values[] = {t ^ 5, (t * 7 + 3) % 32, t < 3 ? t : t - 3, t < 2 ? t + 30 : t};
    want.insert(want.end(), values, values + 4);
    want.push_back(static_cast<float>(1000.5 + (t ^ 16)));
    want.push_back(static_cast<float>(thirds >> 16));
    for (const float vote : {1.0f, 0.0f, 1.0f, 0.0f}) want.push_back(vote);
  }
  probe.equal("shuffles and votes", out.read(), want);
}

void conversion_facts(Probe& probe) {
  std::vector<float> in;
  for (int e = -12; e <= 10; e++) {
    for (int m = 0; m < 16; m++) in.push_back(std::ldexp(1.0f + static_cast<float>(m) / 16 + 0x1p-20f, e));
    for (int m = 0; m < 16; m++) in.push_back(std::ldexp(1.0f + static_cast<float>(m) / 16, e));  // ties
  }
  const int count = static_cast<int>(in.size());
  const Array<float> source(in), out(9 * in.size());
  const Array<uint32_t> stored(2 * in.size());
  run(convert, 1, kLanes, 0, source.data(), stored.data(), out.data(), count);
  const auto words = stored.read();
  const auto values = out.read();
  std::vector<float> got, want;
  for (size_t i = 0; i < in.size(); i++) {
    const uint32_t expected[] = {to_bf16(in[i]).bits | uint32_t{to_bf16(-in[i]).bits} << 16,
                                 to_f8e4m3(in[i]).bits | uint32_t{to_f8e4m3(-in[i]).bits} << 8};
    for (size_t j = 0; j < 2; j++) {
      for (int shift = 0; shift < 32; shift += 16) {
        got.push_back(static_cast<float>(words[2 * i + j] >> shift & 0xffff));
        want.push_back(static_cast<float>(expected[j] >> shift & 0xffff));
      }
    }
    const float back[] = {to_float(to_bf16(in[i])), to_float(to_bf16(-in[i])), to_float(to_f8e4m3(in[i])),
                          to_float(to_f8e4m3(-in[i]))};
    for (size_t j = 0; j < 4; j++) {
      got.push_back(values[9 * i + j]);
      want.push_back(back[j]);
    }
  }
  probe.equal("conversions to bf16 and e4m3 and back, ties and saturation among them", got, want);

  // The errors that the PTX manual allows, a little rounded up.
  double worst[5] = {};
  for (size_t i = 0; i < in.size(); i++) {
    const double x = in[i], exact[] = {std::exp2(x), std::log2(x), std::tanh(x), 1 / x, 1 / std::sqrt(x)};
    for (size_t j = 0; j < 5; j++) {
      if (!(std::abs(exact[j]) < 3e38)) continue;
      const double scale = j == 1 ? std::max(1.0, std::abs(exact[j])) : std::abs(exact[j]);
      worst[j] = std::max(worst[j], std::abs(values[9 * i + 4 + j] - exact[j]) / scale);
    }
  }
  const char* names[] = {"ex2", "lg2", "tanh", "rcp", "rsqrt"};
  const double allowed[] = {0x1p-22, 0x1p-21, 0x1p-10, 0x1p-22, 0x1p-22};
  for (size_t j = 0; j < 5; j++) {
    probe.fact(std::string(names[j]) + " is as exact as the manual says", worst[j] <= allowed[j],
               "relative error " + std::to_string(worst[j] * 0x1p22) + " * 2^-22");
  }
}

}  // namespace

void warp_facts(Probe& probe) {
  int device;
  cudaDeviceProp card;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaGetDeviceProperties(&card, device), "cudaGetDeviceProperties");
  const int capability = card.major * 10 + card.minor;
  probe.topic("A warp: matrices, products, exchange, conversions");
  matrix_facts(probe, capability >= 90);
  product_facts<false>(probe);
  if (capability >= 89) product_facts<true>(probe);
  exchange_facts(probe);
  conversion_facts(probe);
}

}  // namespace fsv::cuda::probe
