// wgmma: where the elements of both operands lie for every swizzle and major-ness, and what hardware alone
// can answer.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "cuda/probe/probe.h"
#include "cuda/ptx/ptx.cuh"

namespace fsv::cuda::probe {
namespace {

using namespace fsv::ptx;

constexpr int kRows = 64, kSteps = 4;  // of A; products of 32 bytes of k each
constexpr uint32_t kTile = 64 << 10;   // room for an operand

/// One operand in shared memory: descriptors of its steps along k, relative to its tile.
struct Described {
  uint64_t steps[kSteps];
};

/// Copies two images to shared memory, multiplies, stores D as [64][N]. The descriptors' addresses count from
/// the tiles.
template <int N, Major TA, Major TB, bool kFp8, bool kRegisters>
FSV_KERNEL void FSV_BOUNDS(128, 1) multiply(const uint4* a_image, const uint4* b_image, Described a,
                                            Described b, const uint32_t* fragments, float* out) {
#if FSV_SM90A
  const uint32_t a_tile = align_up(smem_base(), 1024), b_tile = a_tile + kTile;
  const int t = threadIdx.x;
  for (uint32_t i = t; i < kTile / 16; i += 128) {
    sts(a_tile + 16 * i, ldg(a_image + i));
    sts(b_tile + 16 * i, ldg(b_image + i));
  }
  fence_proxy_async();
  syncthreads();
  float d[N / 2];
  uint32_t registers[kSteps][4];
  for (int s = 0; s < kSteps; s++) {
    FSV_UNROLL
    for (int r = 0; r < 4; r++) registers[s][r] = ldg(fragments + (s * 4 + r) * 128 + t);
  }
  wgmma_fence(d);
  FSV_UNROLL
  for (int s = 0; s < kSteps; s++) {
    const uint64_t da = a.steps[s] + (a_tile >> 4), db = b.steps[s] + (b_tile >> 4);
    if constexpr (kFp8 && kRegisters) {
      wgmma_e4m3_rs<N>(d, registers[s], db, s != 0);
    } else if constexpr (kFp8) {
      wgmma_e4m3<N>(d, da, db, s != 0);
    } else if constexpr (kRegisters) {
      wgmma_bf16_rs<N, TB>(d, registers[s], db, s != 0);
    } else {
      wgmma_bf16<N, TA, TB>(d, da, db, s != 0);
    }
  }
  wgmma_commit();
  wgmma_wait<0>(d);
  FSV_UNROLL
  for (int i = 0; i < N / 2; i++) {
    const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + t % 4 * 2 + i % 2;
    stg(out + row * N + column, d[i]);
  }
#endif
}

/// A matrix [rows][depth] of numbers, and how it is stored.
struct Matrix {
  int rows, depth;
  bool fp8;
  std::vector<float> values;

  Matrix(int r, bool is_fp8, size_t seed) : rows(r), depth(kSteps * (is_fp8 ? 32 : 16)), fp8(is_fp8) {
    for (int i = 0; i < rows * depth; i++) values.push_back(small(seed + static_cast<size_t>(i)));
  }
  float at(int row, int k) const { return values[static_cast<size_t>(row * depth + k)]; }
  int element() const { return fp8 ? 1 : 2; }

  void store(int row, int k, uint8_t* to) const {
    if (fp8) {
      *to = to_f8e4m3(at(row, k)).bits;
    } else {
      const uint16_t bits = to_bf16(at(row, k)).bits;
      std::memcpy(to, &bits, 2);
    }
  }
};

/// A tile as it lies in shared memory, and the descriptors to it. The layouts are said here once more, in
/// terms of bytes: K-major tiles are panels of one swizzle span of k, MN-major ones panels of one span of
/// rows.
struct Tile {
  std::vector<uint8_t> image = std::vector<uint8_t>(kTile);
  Described described = {};

  Tile(const Matrix& m, Swizzle swizzle_mode, Major major) {
    const int span = static_cast<int>(swizzle_span(swizzle_mode)), e = m.element(), rows = m.rows;
    for (int row = 0; row < rows; row++) {
      for (int k = 0; k < m.depth; k++) {
        const int along = (major == K_MAJOR ? k : row) * e, across = major == K_MAJOR ? row : k;
        const int panel = along / span * (major == K_MAJOR ? rows : m.depth) * span;
        m.store(row, k,
                &image[swizzle(swizzle_mode, static_cast<uint32_t>(panel + across * span + along % span))]);
      }
    }
    for (int step = 0; step < kSteps; step++) {
      const int k = step * 32 / e;
      uint32_t at, leading, stride;
      if (major == K_MAJOR) {
        at = static_cast<uint32_t>(k * e / span * rows * span + k * e % span);
        leading = swizzle_mode == SW_NONE ? static_cast<uint32_t>(rows * 16) : 16;
        stride = static_cast<uint32_t>(8 * span);
      } else {
        const auto panel = static_cast<uint32_t>(m.depth * span);
        at = static_cast<uint32_t>(k * span);
        leading = swizzle_mode == SW_NONE ? 128 : panel;
        stride = swizzle_mode == SW_NONE ? panel : static_cast<uint32_t>(8 * span);
      }
      described.steps[step] = gmma_desc(at, leading, stride, swizzle_mode);
    }
  }
};

/// Fragments of A: register r of thread t at step s in [s][r][t].
std::vector<uint32_t> fragments_of(const Matrix& m) {
  std::vector<uint32_t> words(kSteps * 4 * 128);
  const int each = 4 / m.element(), depth = 8 * each;
  for (int s = 0; s < kSteps; s++) {
    for (int r = 0; r < 4; r++) {
      for (int t = 0; t < 128; t++) {
        const int row = t / 32 * 16 + t % 32 / 4 + r % 2 * 8, k = s * depth + t % 4 * each + r / 2 * 4 * each;
        uint8_t bytes[4];
        for (int e = 0; e < each; e++) m.store(row, k + e, bytes + e * m.element());
        std::memcpy(&words[static_cast<size_t>((s * 4 + r) * 128 + t)], bytes, 4);
      }
    }
  }
  return words;
}

std::vector<float> product_of(const Matrix& a, const Matrix& b) {
  std::vector<float> d;
  for (int i = 0; i < a.rows; i++) {
    for (int j = 0; j < b.rows; j++) {
      double sum = 0;
      for (int k = 0; k < a.depth; k++) sum += double{a.at(i, k)} * double{b.at(j, k)};
      d.push_back(static_cast<float>(sum));
    }
  }
  return d;
}

std::vector<uint4> words(const std::vector<uint8_t>& bytes) {
  std::vector<uint4> out(bytes.size() / 16);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

template <int N, Major TA, Major TB, bool kFp8, bool kRegisters>
std::vector<float> multiply_on_card(const Tile& a, const Tile& b, const std::vector<uint32_t>& fragments) {
  const Array<uint4> a_image(words(a.image)), b_image(words(b.image));
  const Array<uint32_t> registers(fragments);
  const Array<float> out(static_cast<size_t>(kRows * N));
  run(multiply<N, TA, TB, kFp8, kRegisters>, 1, 128, 2 * kTile + 1024, a_image.data(), b_image.data(),
      a.described, b.described, registers.data(), out.data());
  return out.read();
}

const char* name_of(Swizzle swizzle) {
  return swizzle == SW_128 ? "128" : swizzle == SW_64 ? "64" : swizzle == SW_32 ? "32" : "no";
}

template <int N, Major TA, Major TB, bool kFp8, bool kRegisters>
void one(Probe& probe, Swizzle swizzle_mode) {
  const Matrix a(kRows, kFp8, 1), b(N, kFp8, 7777);
  // MN-major tiles are whole panels.
  const int panel = static_cast<int>(swizzle_span(swizzle_mode)) / 2;
  if (TB == MN_MAJOR && N % panel) return;
  const Tile a_tile(a, swizzle_mode, TA), b_tile(b, swizzle_mode, TB);
  const auto got = multiply_on_card<N, TA, TB, kFp8, kRegisters>(a_tile, b_tile, fragments_of(a));
  const std::string claim = std::string(kFp8 ? "e4m3" : "bf16") + " N=" + std::to_string(N) + ", A " +
                            (kRegisters      ? "from registers"
                             : TA == K_MAJOR ? "K-major"
                                             : "M-major") +
                            ", B " + (TB == K_MAJOR ? "K-major" : "N-major") + ", " + name_of(swizzle_mode) +
                            " swizzle";
  probe.equal(claim, got, product_of(a, b));
}

template <int N>
void all_of(Probe& probe) {
  for (const Swizzle swizzle_mode : {SW_128, SW_64, SW_32, SW_NONE}) {
    one<N, K_MAJOR, K_MAJOR, false, false>(probe, swizzle_mode);
    one<N, K_MAJOR, MN_MAJOR, false, false>(probe, swizzle_mode);
    one<N, MN_MAJOR, K_MAJOR, false, false>(probe, swizzle_mode);
    one<N, MN_MAJOR, MN_MAJOR, false, false>(probe, swizzle_mode);
    one<N, K_MAJOR, K_MAJOR, false, true>(probe, swizzle_mode);
    one<N, K_MAJOR, MN_MAJOR, false, true>(probe, swizzle_mode);
    one<N, K_MAJOR, K_MAJOR, true, false>(probe, swizzle_mode);
    one<N, K_MAJOR, K_MAJOR, true, true>(probe, swizzle_mode);
  }
}

/// How many bits survive when a large product and small ones are added in one instruction: 2^e + 2^-e' tells.
int bits_of_fp8_sums() {
  for (int bits = 24; bits > 1; bits--) {
    Matrix a(kRows, true, 0), b(8, true, 0);
    std::fill(a.values.begin(), a.values.end(), 0.0f);
    std::fill(b.values.begin(), b.values.end(), 0.0f);
    // One product of 2^16 and one of 2^(17 - bits), split between the operands' exponents of -9 .. 8.
    const int left = (17 - bits) / 2, right = 17 - bits - left;
    a.values[0] = b.values[0] = 256;
    a.values[1] = std::ldexp(1.0f, left);
    b.values[1] = std::ldexp(1.0f, right);
    const Tile a_tile(a, SW_128, K_MAJOR), b_tile(b, SW_128, K_MAJOR);
    const auto d = multiply_on_card<8, K_MAJOR, K_MAJOR, true, false>(a_tile, b_tile, fragments_of(a));
    if (d[0] == 65536.0f + std::ldexp(1.0f, 17 - bits)) return bits;
  }
  return 0;
}

/// A tile of 72 rows of which the product takes 64, from row `shift` on.
bool starts_mid_atom(int shift, uint32_t base_offset) {
  const Matrix a(kRows + 8, false, 1), b(64, false, 7777);
  Tile a_tile(a, SW_128, K_MAJOR);
  const Tile b_tile(b, SW_128, K_MAJOR);
  for (int step = 0; step < kSteps; step++) {
    a_tile.described.steps[step] =
        gmma_desc(static_cast<uint32_t>(shift * 128 + step * 32), 16, 1024, SW_128, base_offset);
  }
  Matrix moved = a;
  moved.rows = kRows;
  moved.values.erase(moved.values.begin(), moved.values.begin() + shift * a.depth);
  return multiply_on_card<64, K_MAJOR, K_MAJOR, false, false>(
             a_tile, b_tile, std::vector<uint32_t>(kSteps * 4 * 128)) == product_of(moved, b);
}

}  // namespace

void wgmma_facts(Probe& probe) {
  probe.topic("wgmma: operands and accumulators lie as the model says");
  all_of<8>(probe);
  all_of<64>(probe);
  all_of<104>(probe);
  all_of<256>(probe);
}

void wgmma_answers(Probe& probe) {
  probe.topic("wgmma: what only hardware knows");
  probe.answer("bits kept while fp8 products are added", std::to_string(bits_of_fp8_sums()));
  if (probe.simulated()) return;
  // A convolution could read all its taps from one brick of pixels, if a matrix may start at any row of an
  // atom.
  std::string plain, offset;
  for (int shift = 1; shift < 8; shift++) {
    if (starts_mid_atom(shift, 0)) plain += " " + std::to_string(shift);
    if (starts_mid_atom(shift, static_cast<uint32_t>(shift))) offset += " " + std::to_string(shift);
  }
  const auto list = [](const std::string& rows) {
    return rows.empty() ? std::string("none") : "rows" + rows;
  };
  probe.answer("A may start between the rows of an atom, base offset 0, at", list(plain));
  probe.answer("A may start between the rows of an atom, base offset = row, at", list(offset));
}

}  // namespace fsv::cuda::probe
