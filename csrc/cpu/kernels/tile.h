// AMX: eight tiles of up to 16 rows of 64 bytes a thread, behind one wrapper an instruction, so that kernels
// written for tiles also run where there are none: with FSV_AMX_EMULATED the wrappers are plain C++ with the
// instructions' own arithmetic (Intel SDM, TDPBF16PS: even and odd products summed apart with fused
// multiply-add, then both added to the accumulator; denormals count as zero).
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"
#if FSV_AMX_EMULATED
#include <immintrin.h>
#endif

namespace fsv::cpu::FSV_ISA {

inline constexpr int kTiles = 8;
inline constexpr int kTileRows = 16;
inline constexpr int kTileBytes = 64;

/// Sizes of the eight tiles, as LDTILECFG reads them.
struct alignas(64) TileSizes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};  ///< of a row, a multiple of 4
  uint8_t rows[16] = {};
};

#if FSV_AMX_EMULATED

struct EmulatedTiles {
  TileSizes sizes;
  uint8_t at[kTiles][kTileRows][kTileBytes];
};
static thread_local EmulatedTiles emulated;

static inline void tile_configure(const TileSizes& sizes) {
  emulated.sizes = sizes;
  std::memset(emulated.at, 0, sizeof emulated.at);
}
static inline void tile_release() {}

template <int Tile>
static inline void tile_zero() {
  std::memset(emulated.at[Tile], 0, sizeof emulated.at[Tile]);
}
template <int Tile, bool kStreamed = false>
static inline void tile_load(const void* from, int64_t stride) {
  for (int r = 0; r < emulated.sizes.rows[Tile]; r++)
    std::memcpy(emulated.at[Tile][r], static_cast<const char*>(from) + r * stride,
                emulated.sizes.bytes[Tile]);
}
template <int Tile>
static inline void tile_store(void* to, int64_t stride) {
  for (int r = 0; r < emulated.sizes.rows[Tile]; r++)
    std::memcpy(static_cast<char*>(to) + r * stride, emulated.at[Tile][r], emulated.sizes.bytes[Tile]);
}

/// Denormals to zeros of their sign.
static inline __m512 flushed(__m512 values) {
  constexpr int kDenormal = 0x20;
  return _mm512_mask_and_ps(values, _mm512_fpclass_ps_mask(values, kDenormal), values, _mm512_set1_ps(-0.0f));
}

/// Sum += A B: A rows of pairs, B as many rows of pairs for each column.
static void emulated_dot(int sum, int a, int b) {
  const TileSizes& sizes = emulated.sizes;
  const __mmask16 columns = static_cast<__mmask16>((1u << sizes.bytes[sum] / 4) - 1);
  const auto even_of = [](__m512i pairs) {
    return flushed(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)));
  };
  const auto odd_of = [](__m512i pairs) {
    return flushed(_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000))));
  };
  for (int r = 0; r < sizes.rows[sum]; r++) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (int k = 0; k < sizes.bytes[a] / 4; k++) {
      int pair;
      std::memcpy(&pair, &emulated.at[a][r][4 * k], 4);
      const __m512i x = _mm512_set1_epi32(pair), y = _mm512_loadu_si512(emulated.at[b][k]);
      even = flushed(_mm512_fmadd_ps(even_of(x), even_of(y), even));
      odd = flushed(_mm512_fmadd_ps(odd_of(x), odd_of(y), odd));
    }
    uint8_t* at = emulated.at[sum][r];
    const __m512 total =
        flushed(_mm512_add_ps(flushed(_mm512_loadu_ps(at)), flushed(_mm512_add_ps(even, odd))));
    _mm512_mask_storeu_ps(at, columns, total);
  }
}
template <int Sum, int A, int B>
static inline void tile_dot_bf16() {
  emulated_dot(Sum, A, B);
}

#else

/// Before the first tile instruction of a kernel, and where sizes change: all tiles become zero.
/// `tile_release` at the kernel's end, so that the system need not save 8 KB at every switch of threads.
static inline void tile_configure(const TileSizes& sizes) { asm volatile("ldtilecfg %0" ::"m"(sizes)); }
static inline void tile_release() { asm volatile("tilerelease"); }

template <int Tile>
static inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
}
/// `kStreamed`: what comes from L2 and is not wanted again soon takes nobody's place in L1. There stays what
/// products store; a store that misses L1 holds up everything behind it.
template <int Tile, bool kStreamed = false>
static inline void tile_load(const void* from, int64_t stride) {
  if constexpr (kStreamed)
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(Tile) : "memory");
  else
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
static inline void tile_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(Tile) : "memory");
}
template <int Sum, int A, int B>
static inline void tile_dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
}

#endif

}  // namespace fsv::cpu::FSV_ISA
