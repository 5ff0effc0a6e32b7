// The order in which the tiles of a GEMM's result are computed. Blocks take tiles `index`, `index + blocks`,
// ... of one sequence, so what runs at the same time is a run of neighbouring indices: groups of `group` rows
// of tiles, column by column, keep the rows of x and of W that such a run needs few, and so in L2. For host
// and device.
#pragma once

namespace fsv::cuda::kernels {

struct TileAt {
  int m, n;
};

struct TileOrder {
  int tiles_m = 0, tiles_n = 0;
  int group = 1;  ///< rows of tiles side by side

  constexpr int count() const { return tiles_m * tiles_n; }

  constexpr TileAt operator[](int index) const {
    const int of_group = group * tiles_n;
    const int first = index / of_group * group, within = index % of_group;
    const int rows = tiles_m - first < group ? tiles_m - first : group;
    return {first + within % rows, within / rows};
  }
};

}  // namespace fsv::cuda::kernels
