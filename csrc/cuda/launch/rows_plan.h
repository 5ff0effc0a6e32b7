// How ops bound by memory are cut for the card: by their shapes and addresses alone, so that their results
// are.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "core/dtype.h"
#include "ops/ops.h"

namespace fsv::cuda {

inline constexpr int64_t kMostBlocks = INT32_MAX;  ///< of a grid's x; its y and z have 16 bits
inline constexpr int64_t kMostBlocksAcross = UINT16_MAX;
inline constexpr int kSheetThreads = 256;
inline constexpr int kFiniteShared = kSheetThreads / 32 * 4;  ///< of all_finite: what each warp has found

struct Extent {
  unsigned x, y, z;
  constexpr Extent(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

/// What becomes a LaunchShape (launch/rows_launch.h).
struct GridPlan {
  Extent grid, block;
  size_t smem = 0;
};

/// For a result of Y in packs of N: the fewest threads that may share a row (kernels/row.cuh).
template <class Y, int N>
inline constexpr int kLeastTeam = std::is_same_v<Y, F8e4m3> ? static_cast<int>(kScaleGroup) / N : 1;

/// body(float{}) or body(Bf16{}).
template <class Body>
void with_float(DType dtype, const Body& body) {
  if (dtype == DType::bf16)
    body(Bf16{});
  else
    body(float{});
}

/// body(n) with n.value = N, or 1 where packs of N are not allowed.
template <int N, class Body>
void with_pack(bool allowed, const Body& body) {
  if (allowed)
    body(std::integral_constant<int, N>{});
  else
    body(std::integral_constant<int, 1>{});
}

/// Whether 16 bytes may be moved at once at all of these; null is no address.
inline bool all_aligned(std::initializer_list<const void*> addresses) {
  return std::all_of(addresses.begin(), addresses.end(),
                     [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; });
}

/// Rows shared by teams of threads (kernels/row.cuh).
struct TeamPlan {
  int team;
  GridPlan shape;
};
/// Rows of `packs`, of which a thread shall have `held`; at least `least` and at most `most` threads to a
/// row.
inline TeamPlan plan_teams(int64_t rows, int64_t packs, int held, int most, int least = 1) {
  const int64_t threads = std::clamp<int64_t>((packs + held - 1) / held, least, most);
  const int team = static_cast<int>(threads <= 32 ? std::bit_ceil(static_cast<uint64_t>(threads))
                                                  : (threads + 31) / 32 * 32);
  const int block = team <= 32 ? 256 : team;
  const int64_t blocks = (rows + block / team - 1) / (block / team);
  return {
      team,
      {.grid = static_cast<unsigned>(std::min(blocks, kMostBlocks)), .block = static_cast<unsigned>(block)}};
}

/// A sheet of rows x columns, `depth` times (kernels/sheet.cuh). Blocks go down the rows until there are
/// more of them than any card runs at once: what a thread keeps of its columns serves several rows.
inline GridPlan plan_sheet(int64_t rows, int64_t columns, int64_t depth = 1) {
  constexpr int64_t kEnough = 4096, kMostRows = 8;
  const int64_t tiles = (columns + kSheetThreads - 1) / kSheetThreads, x = (columns + tiles - 1) / tiles;
  const int64_t y = kSheetThreads / x, across = std::min(tiles, kMostBlocksAcross),
                deep = std::min(depth, kMostBlocksAcross);
  const int64_t down = (rows + y - 1) / y;
  const int64_t each = std::clamp<int64_t>(down * across * deep / kEnough, 1, kMostRows);
  return {.grid = Extent(static_cast<unsigned>(std::min((down + each - 1) / each, kMostBlocks)),
                         static_cast<unsigned>(across), static_cast<unsigned>(deep)),
          .block = Extent(static_cast<unsigned>(x), static_cast<unsigned>(y))};
}

/// Elements in packs of n, and those behind the last one by one.
struct PackPlan {
  int64_t packs, elements;
  GridPlan shape;
};
inline PackPlan plan_packs(int64_t elements, int n, bool aligned, int64_t most_blocks = 1 << 14) {
  const int64_t packs = aligned ? elements / n : 0;
  const int64_t threads = std::max(packs, elements - packs * n);
  const int64_t blocks = std::min((threads + kSheetThreads - 1) / kSheetThreads, most_blocks);
  return {packs, elements, {.grid = static_cast<unsigned>(blocks), .block = kSheetThreads}};
}

/// The most bytes, up to 16, that divide an address or a number of bytes.
inline int64_t unit_of(int64_t bits) { return bits == 0 ? 16 : std::min<int64_t>(bits & -bits, 16); }
inline int64_t unit_of(const void* data) {
  return unit_of(static_cast<int64_t>(reinterpret_cast<uintptr_t>(data)));
}

}  // namespace fsv::cuda
