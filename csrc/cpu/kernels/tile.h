// AMX: eight tiles of up to 16 rows of 64 bytes a thread, behind one wrapper an instruction, so that kernels
// written for tiles also run where there are none: with FSV_AMX_EMULATED the wrappers are plain C++ with the
// instructions' own arithmetic (Intel SDM, TDPBF16PS: even and odd products summed apart with fused
// multiply-add, then both added to the accumulator; denormals count as zero).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

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

static inline float flushed(float value) {
  return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value;
}
static inline float tile_bf16(const uint8_t* from) {
  uint16_t half;
  std::memcpy(&half, from, 2);
  const uint32_t bits = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return flushed(value);
}

/// Sum += A B: A rows of pairs, B as many rows of pairs for each column.
template <int Sum, int A, int B>
static inline void tile_dot_bf16() {
  const TileSizes& sizes = emulated.sizes;
  for (int r = 0; r < sizes.rows[Sum]; r++)
    for (int c = 0; c < sizes.bytes[Sum] / 4; c++) {
      float even = 0, odd = 0;
      for (int k = 0; k < sizes.bytes[A] / 4; k++) {
        const uint8_t *a = &emulated.at[A][r][4 * k], *b = &emulated.at[B][k][4 * c];
        even = flushed(std::fma(tile_bf16(a), tile_bf16(b), even));
        odd = flushed(std::fma(tile_bf16(a + 2), tile_bf16(b + 2), odd));
      }
      float total;
      std::memcpy(&total, &emulated.at[Sum][r][4 * c], 4);
      total = flushed(flushed(total) + flushed(even + odd));
      std::memcpy(&emulated.at[Sum][r][4 * c], &total, 4);
    }
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
