// The bf16 micro-kernel on AMX tiles: up to four tiles of sums, 32 rows x 32 columns of a panel, or 64 x 16
// where the panel has no more columns (fewer sums would wait for one another: a product takes 52 cycles, and
// one can begin every 16).
//
// Tiles are zeroed as soon as they are used up. Nothing in here reads those zeros; but a zeroed tile seems to
// need no register of the machine's, which has few to spare for the tiles being loaded where a core's other
// hyperthread uses tiles as well. There a step takes 64 ns instead of 109, elsewhere 28 as before
// (bench/results/README.md).
//
// A block of any height is whole tiles: the last tile of a block begins 16 rows before its end and computes
// some rows a second time, to the same bits. Blocks of fewer than 16 rows, and the end of a k that is no
// multiple of 32, have tiles of their own size; so nothing beyond a row is read, and nothing is copied but
// the last element of an odd k.
#pragma once

#include "cpu/kernels/gemm_block.h"
#include "cpu/kernels/stored.h"
#include "cpu/kernels/tile.h"

namespace fsv::cpu::FSV_ISA {

/// What tiles are used for beside the sums.
inline constexpr int kTileA = 4, kTileA1 = 5, kTileB = 6;  ///< 64 bytes of k
inline constexpr int kTileRestA = 5, kTileRestB = 7;       ///< the rest of k; then there is no A1

/// The sizes that are configured: rows of A and of the sums, bytes of the rest of a row of A.
struct TileBlock {
  int rows = 0, rest = 0;
  bool operator==(const TileBlock&) const = default;
};
static thread_local TileBlock configured_block;

static inline void configure_block(TileBlock block) {
  if (block == configured_block) return;
  configured_block = block;
  TileSizes sizes;
  for (int i = 0; i < kTiles; i++) {
    sizes.bytes[i] = kTileBytes;
    sizes.rows[i] = static_cast<uint8_t>(i == kTileB ? kTileRows : block.rows);
  }
  if (block.rest > 0) {
    sizes.bytes[kTileRestA] = static_cast<uint16_t>(block.rest);
    sizes.rows[kTileRestB] = static_cast<uint8_t>(block.rest / 4);
  }
  tile_configure(sizes);
}

/// Rows of A of one tile of sums after the other.
template <int RowTiles>
struct TileRows {
  const char* at[RowTiles];
  int64_t stride;

  void advance(int64_t bytes) {
    for (int i = 0; i < RowTiles; i++) at[i] += bytes;
  }
};

/// One step of k: tile sums i, j are number i * ColTiles + j. With A == A1 the first tile of A is loaded
/// twice, for want of another.
template <int A, int A1, int B, bool kStreamed, int RowTiles, int ColTiles>
FSV_INLINE inline void tile_step(const TileRows<RowTiles>& a, const char* b) {
  constexpr int64_t kRowB = kPanelCols * 4;
  tile_load<B, kStreamed>(b, kRowB);
  tile_load<A>(a.at[0], a.stride);
  tile_dot_bf16<0, A, B>();
  if constexpr (ColTiles == 1) {
    tile_zero<A>();
    if constexpr (RowTiles > 1) {
      tile_load<A1>(a.at[1], a.stride);
      tile_dot_bf16<1, A1, B>();
      tile_zero<A1>();
    }
    if constexpr (RowTiles > 2) {
      tile_load<A>(a.at[2], a.stride);
      tile_dot_bf16<2, A, B>();
      tile_zero<A>();
    }
    if constexpr (RowTiles > 3) {
      tile_load<A1>(a.at[3], a.stride);
      tile_dot_bf16<3, A1, B>();
      tile_zero<A1>();
    }
  } else {
    if constexpr (RowTiles > 1) {
      tile_load<A1>(a.at[1], a.stride);
      tile_dot_bf16<2, A1, B>();
    }
    tile_zero<B>();
    tile_load<B, kStreamed>(b + 64, kRowB);
    if constexpr (RowTiles > 1) {
      tile_dot_bf16<3, A1, B>();
      tile_zero<A1>();
      if constexpr (A == A1) tile_load<A>(a.at[0], a.stride);
    }
    tile_dot_bf16<1, A, B>();
    tile_zero<A>();
  }
  tile_zero<B>();
}

/// The rest of an odd k with a zero behind, in rows of 64 bytes.
static inline void stage_odd(const char* from, int64_t stride, int64_t rows, int64_t k, char* to) {
  const __mmask32 mask = (__mmask32{1} << k) - 1;
  for (int64_t r = 0; r < rows; r++)
    _mm512_store_si512(to + r * kTileBytes, _mm512_maskz_loadu_epi16(mask, from + r * stride));
}

template <int RowTiles, int ColTiles, bool kRest, bool kStreamed>
static void multiply_tiles(const RowSource& rows, int64_t count, const char* panel, const Target& to) {
  constexpr int kA1 = kRest ? kTileA : kTileA1;
  constexpr int64_t kStepB = kTileRows * kPanelCols * 4;
  const int64_t tile_rows = count < kTileRows ? count : kTileRows;
  int64_t first[RowTiles];
  for (int i = 0; i < RowTiles; i++) first[i] = i + 1 < RowTiles ? i * kTileRows : count - tile_rows;

  // Sums begin with zeros or with what is there.
  const auto each_sum = [&](auto with) FSV_INLINE {
    const auto at = [&](int i, int j) { return to.sums + first[i] * to.stride + 16 * j; };
    with(std::integral_constant<int, 0>{}, at(0, 0));
    if constexpr (RowTiles * ColTiles > 1)
      with(std::integral_constant<int, 1>{}, at(1 / ColTiles, 1 % ColTiles));
    if constexpr (RowTiles * ColTiles > 2)
      with(std::integral_constant<int, 2>{}, at(2 / ColTiles, 2 % ColTiles));
    if constexpr (RowTiles * ColTiles > 3)
      with(std::integral_constant<int, 3>{}, at(3 / ColTiles, 3 % ColTiles));
  };
  if (to.accumulate)
    each_sum([&](auto tile, float* at) FSV_INLINE { tile_load<tile.value>(at, to.stride * 4); });
  else
    each_sum([&](auto tile, float*) FSV_INLINE { tile_zero<tile.value>(); });

  const int64_t segment = segment_bytes(DType::bf16, rows.k);
  auto next = rows.next;
  auto places = rows.places;
  for (int64_t s = 0; s < rows.segments; s++) {
    TileRows<RowTiles> a{{}, rows.steps.stride};
    for (int i = 0; i < RowTiles; i++)
      a.at[i] = rows.base + (rows.offsets ? rows.offsets[s] : 0) + first[i] * rows.steps.stride;
    const char* b = panel + (rows.panel_offsets ? rows.panel_offsets[s] : s * segment);
    int64_t k = rows.k;
    for (; k >= 32; k -= 32, b += kStepB) {
      next.step();
      places.step();
      tile_step<kTileA, kA1, kTileB, kStreamed, RowTiles, ColTiles>(a, b);
      a.advance(kTileBytes);
    }
    if constexpr (kRest) {
      alignas(64) char staged[RowTiles][kTileRows * kTileBytes];
      if (k % 2) {
        for (int i = 0; i < RowTiles; i++) {
          stage_odd(a.at[i], a.stride, tile_rows, k, staged[i]);
          a.at[i] = staged[i];
        }
        a.stride = kTileBytes;
      }
      tile_step<kTileRestA, kTileRestA, kTileRestB, kStreamed, RowTiles, ColTiles>(a, b);
    }
  }
  each_sum([&](auto tile, float* at) FSV_INLINE {
    tile_store<tile.value>(at, to.stride * 4);
    tile_zero<tile.value>();
  });
}

/// Sums that are in `to.sums` to their place as bf16.
static inline void round_rows(const Target& to, int64_t count, int64_t cols) {
  const float* from = to.sums;
  uint16_t* out = to.rounded;
  if (cols > kLanes) {
    const Floats b0 = to.bias ? load(to.bias) : Floats{}, b1 = to.bias ? load(to.bias + kLanes) : Floats{};
    for (int64_t r = 0; r < count; r++, from += to.stride, out += to.steps.stride) {
      const auto halves = _mm512_cvtne2ps_pbh((__m512)(load(from + kLanes) + b1), (__m512)(load(from) + b0));
      std::memcpy(out, &halves, sizeof halves);
    }
  } else {
    const Floats b0 = to.bias ? load(to.bias) : Floats{};
    for (int64_t r = 0; r < count; r++, from += to.stride, out += to.steps.stride) {
      const auto halves = _mm512_cvtneps_pbh((__m512)(load(from) + b0));
      std::memcpy(out, &halves, sizeof halves);
    }
  }
}

/// Like multiply_rows, for count <= most_rows_bf16(cols).
template <bool kRest, bool kStreamed>
static void multiply_block(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                           const Target& to) {
  if (cols > 16) {
    (count > kTileRows ? multiply_tiles<2, 2, kRest, kStreamed>
                       : multiply_tiles<1, 2, kRest, kStreamed>)(rows, count, panel, to);
  } else {
    constexpr decltype(&multiply_tiles<1, 1, kRest, kStreamed>) kByTiles[] = {
        multiply_tiles<1, 1, kRest, kStreamed>, multiply_tiles<2, 1, kRest, kStreamed>,
        multiply_tiles<3, 1, kRest, kStreamed>, multiply_tiles<4, 1, kRest, kStreamed>};
    kByTiles[(count - 1) / kTileRows](rows, count, panel, to);
  }
  if (to.rounded) round_rows(to, count, cols);
}

/// multiply_rows_bf16 of gemm_block.h.
static inline void multiply_rows_tiles(const RowSource& rows, int64_t count, const char* panel, int64_t cols,
                                       const Target& to) {
  const int rest = static_cast<int>(rows.k % 32);
  configure_block({static_cast<int>(count < kTileRows ? count : kTileRows), (rest + 1) / 2 * 4});
  const auto multiply = rows.streamed ? (rest ? multiply_block<true, true> : multiply_block<false, true>)
                                      : (rest ? multiply_block<true, false> : multiply_block<false, false>);
  multiply(rows, count, panel, cols, to);
}
static inline void begin_tiles() { configured_block = {}; }
static inline void end_tiles() { tile_release(); }

}  // namespace fsv::cpu::FSV_ISA
