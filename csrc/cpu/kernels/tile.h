// AMX: eight tiles of 16 rows of 64 bytes a thread, behind one wrapper an instruction, so that kernels
// written for tiles also run where there are none: with FSV_AMX_EMULATED the wrappers are plain C++ with the
// instructions' own arithmetic (Intel SDM, TDPBF16PS: even and odd products summed apart with fused
// multiply-add, then both added to the accumulator; denormals count as zero).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

namespace fsv::cpu::FSV_ISA {

inline constexpr int kTileRows = 16;
inline constexpr int kTileBytes = 64;

#if FSV_AMX_EMULATED

static thread_local uint8_t emulated_tiles[8][kTileRows][kTileBytes];

static inline void tile_configure() {}
static inline void tile_release() {}

template <int Tile>
static inline void tile_zero() {
  std::memset(emulated_tiles[Tile], 0, sizeof emulated_tiles[Tile]);
}
template <int Tile>
static inline void tile_load(const void* from, int64_t stride) {
  for (int r = 0; r < kTileRows; r++)
    std::memcpy(emulated_tiles[Tile][r], static_cast<const char*>(from) + r * stride, kTileBytes);
}
template <int Tile>
static inline void tile_store(void* to, int64_t stride) {
  for (int r = 0; r < kTileRows; r++)
    std::memcpy(static_cast<char*>(to) + r * stride, emulated_tiles[Tile][r], kTileBytes);
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

/// Sum += A B: A 16 rows of 16 pairs, B 16 pairs of rows of 16 columns.
template <int Sum, int A, int B>
static inline void tile_dot_bf16() {
  for (int r = 0; r < kTileRows; r++)
    for (int c = 0; c < 16; c++) {
      float even = 0, odd = 0;
      for (int k = 0; k < 16; k++) {
        even = flushed(
            std::fma(tile_bf16(&emulated_tiles[A][r][4 * k]), tile_bf16(&emulated_tiles[B][k][4 * c]), even));
        odd = flushed(std::fma(tile_bf16(&emulated_tiles[A][r][4 * k + 2]),
                               tile_bf16(&emulated_tiles[B][k][4 * c + 2]), odd));
      }
      float total;
      std::memcpy(&total, &emulated_tiles[Sum][r][4 * c], 4);
      total = flushed(flushed(total) + flushed(even + odd));
      std::memcpy(&emulated_tiles[Sum][r][4 * c], &total, 4);
    }
}

#else

/// Before the first tile instruction of a kernel: all eight tiles at full size. `tile_release` at its end, so
/// that the system need not save 8 KB at every switch of threads.
static inline void tile_configure() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int i = 0; i < 8; i++) {
    config.row_bytes[i] = kTileBytes;
    config.rows[i] = kTileRows;
  }
  asm volatile("ldtilecfg %0" ::"m"(config));
}
static inline void tile_release() { asm volatile("tilerelease"); }

template <int Tile>
static inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
}
template <int Tile>
static inline void tile_load(const void* from, int64_t stride) {
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
