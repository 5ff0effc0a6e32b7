// How a convolution is run: which kernel, with which tiles. A pure function of sizes, tested on the host. The
// results do not depend on what is chosen here within a kernel; which kernel it is depends on nothing but the
// weight, the strides and the channels, so a clip gives the same bits in one call, in chunks and in any
// batch.
#pragma once

#include <algorithm>

#include "cuda/kernels/conv3d_sm90.cuh"

namespace fsv::cuda {

enum class ConvKernel : int8_t { sm90, portable, depthwise };

/// Tiles of conv3d_sm90: pixel blocks a consumer and output channels.
enum class ConvTile : int8_t { b2n128, b1n128, b2n64, b2n32, b2n16 };

struct ConvDevice {
  bool hopper = false;
  int processors = 132;
  int shared_bytes = 232448;  ///< that a block can have
};

struct Conv3dPlan {
  ConvKernel kernel = ConvKernel::portable;
  ConvTile tile = ConvTile::b2n128;
  kernels::ConvBox box;
  int shared_bytes = 0;
  int blocks = 0;
};

namespace conv3d_plan_detail {

using namespace kernels;

inline constexpr int kMostStep = 8,
                     kMostBox = 256;  // element strides and box sides of a tensor map, before its steps

constexpr int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

/// The rings: two slots each at least; as many slots of the weight as its bricks need, then more bricks.
template <class Tile>
bool fit_rings(ConvBox& b, int shared_bytes) {
  const auto fits = [&] { return Tile::shared_bytes(b) <= shared_bytes; };
  const auto grow = [&](int& slots, int most) {
    if (slots >= most) return false;
    slots++;
    if (fits()) return true;
    slots--;
    return false;
  };
  b.brick_slots = b.weight_slots = 2;
  if (!fits()) return false;
  const int weights_of_brick = ceil_div(b.taps, b.weight_taps);
  while (grow(b.weight_slots, std::min(kMostConvSlots, b.brick_slots * weights_of_brick)) ||
         grow(b.brick_slots, kMostConvSlots / 2) || grow(b.weight_slots, kMostConvSlots)) {
  }
  return true;
}

/// Cycles in which a processor makes one product, of a tap and a slice, of a tile. Products of few columns
/// wait for their pixels to be read from shared memory; loads share what L2 gives, some 5 TB/s.
template <class Tile>
double product_cycles(const ConvBox& b) {
  constexpr double kLeastProduct = 24, kLoadBytes = 32;  // a product of 64 x 16; of a cycle
  const double multiply = Tile::kPixels / 64 * (b.slice / 16) * std::max(Tile::kN / 2.0, kLeastProduct);
  const double load = (b.brick_bytes() / double(b.taps) + Tile::kN * b.slice * 2) / kLoadBytes;
  return std::max(multiply, load) + std::min(multiply, load) / 8;
}

/// The best box for one tile, with its cost in `cost`. False when none fits.
template <class Tile>
bool fit_box(const Conv& c, const ConvLayout& l, const ConvDevice& device, ConvBox& best, double& cost) {
  bool found = false;
  for (int w = 8; w <= Tile::kPixels; w *= 2)
    for (int h = 1; w * h <= Tile::kPixels; h *= 2) {
      if (w * h < 64) continue;  // a block of 64 pixels is of one frame
      ConvBox b;
      b.box_w = w, b.box_h = h, b.box_t = Tile::kPixels / (w * h);
      b.slice = static_cast<int>(l.slice), b.slices = static_cast<int>(l.slices);
      b.tiles_n = static_cast<int>(l.groups) * ceil_div(l.out, Tile::kN);
      b.tiles_w = ceil_div(c.out_width, w), b.tiles_h = ceil_div(c.out_height, h);
      b.tiles_t = ceil_div(c.out_frames, b.box_t);
      b.store_by_tma = c.out_channels % 8 == 0 && (l.groups == 1 || l.out % Tile::kPanel == 0);
      for (int taps : {c.stride_h == 1 ? c.kh : 1, 1}) {
        b.taps = taps;
        b.rows = h + taps - 1;
        b.weight_taps = std::clamp(b.slice == 64 ? 1 : 128 / b.slice, 1, taps);
        const bool boxable = w * c.stride_w <= kMostBox && b.rows * c.stride_h <= kMostBox;
        if (!boxable || !fit_rings<Tile>(b, device.shared_bytes)) continue;
        const double of_box = ceil_div(b.tiles(c.batch), device.processors) * product_cycles<Tile>(b);
        if (!found || of_box < cost) best = b, cost = of_box;
        found = true;
        break;
      }
    }
  return found;
}

template <class Tile>
void consider(ConvTile tile, const Conv& c, const ConvLayout& l, const ConvDevice& device, Conv3dPlan& plan,
              double& cost) {
  ConvBox box;
  double of_tile = 0;
  if (!fit_box<Tile>(c, l, device, box, of_tile)) return;
  if (plan.kernel == ConvKernel::sm90 && of_tile >= cost) return;
  plan.kernel = ConvKernel::sm90;
  plan.tile = tile;
  plan.box = box;
  plan.shared_bytes = Tile::shared_bytes(box);
  plan.blocks = std::min(box.tiles(c.batch), device.processors);
  cost = of_tile;
}

}  // namespace conv3d_plan_detail

/// What a tensor map says.
struct MapSpec {
  const void* base = nullptr;
  int rank = 5;
  int64_t extents[5] = {};
  int64_t strides[4] = {};  ///< bytes, of all dimensions but the innermost
  int box[5] = {};          ///< elements that are loaded
  int steps[5] = {1, 1, 1, 1, 1};
  ptx::Swizzle swizzle = ptx::SW_NONE;
};

inline Conv3dPlan plan_conv3d(const kernels::Conv& c, const kernels::ConvLayout& l,
                              const ConvDevice& device) {
  using namespace conv3d_plan_detail;
  Conv3dPlan plan;
  if (l.kind == ConvKind::depthwise) plan.kernel = ConvKernel::depthwise;
  if (l.kind != ConvKind::sliced || !device.hopper || c.stride_h > kMostStep || c.stride_w > kMostStep)
    return plan;
  double cost = 0;
  consider<Conv3dTile<2, 128>>(ConvTile::b2n128, c, l, device, plan, cost);
  consider<Conv3dTile<1, 128>>(ConvTile::b1n128, c, l, device, plan, cost);
  consider<Conv3dTile<2, 64>>(ConvTile::b2n64, c, l, device, plan, cost);
  consider<Conv3dTile<2, 32>>(ConvTile::b2n32, c, l, device, plan, cost);
  consider<Conv3dTile<2, 16>>(ConvTile::b2n16, c, l, device, plan, cost);
  return plan;
}

namespace conv3d_plan_detail {

/// Frames [B, T, H, W, C] of bf16.
inline MapSpec frames_map(const void* base, int64_t channels, int64_t width, int64_t height, int64_t frames,
                          int64_t batch) {
  MapSpec m;
  m.base = base;
  const int64_t extents[5] = {channels, width, height, frames, batch};
  int64_t stride = 2;
  for (int i = 0; i < 5; i++) {
    m.extents[i] = extents[i];
    if (i > 0) m.strides[i - 1] = stride;
    stride *= extents[i];
  }
  return m;
}

inline ptx::Swizzle swizzle_of(int elements) {
  return elements == 64 ? ptx::SW_128 : elements == 32 ? ptx::SW_64 : ptx::SW_32;
}

}  // namespace conv3d_plan_detail

/// Bricks of x or, of c.before frames, of before.
inline MapSpec brick_map(const kernels::Conv& c, const kernels::ConvBox& b, const void* base, int frames) {
  using namespace conv3d_plan_detail;
  MapSpec m = frames_map(base, c.channels, c.width, c.height, frames, c.batch);
  m.swizzle = swizzle_of(b.slice);
  m.box[0] = b.slice, m.box[1] = b.box_w, m.box[2] = b.rows, m.box[3] = m.box[4] = 1;
  m.steps[1] = c.stride_w, m.steps[2] = c.stride_h;
  return m;
}

/// Tiles of `columns` outputs of the packed weight.
inline MapSpec weight_map(const kernels::ConvLayout& l, const kernels::ConvBox& b, int columns,
                          const void* base) {
  MapSpec m;
  m.base = base;
  m.rank = 3;
  m.extents[0] = l.slice, m.extents[1] = l.out, m.extents[2] = l.groups * l.chunks();
  m.strides[0] = l.slice * 2, m.strides[1] = l.out * l.slice * 2;
  m.box[0] = b.slice, m.box[1] = columns, m.box[2] = b.weight_taps;
  m.swizzle = conv3d_plan_detail::swizzle_of(b.slice);
  return m;
}

/// Blocks of 64 pixels and a panel of channels of the result.
inline MapSpec out_map(const kernels::Conv& c, const kernels::ConvBox& b, int panel, const void* base) {
  using namespace conv3d_plan_detail;
  MapSpec m = frames_map(base, c.out_channels, c.out_width, c.out_height, c.out_frames, c.batch);
  m.swizzle = swizzle_of(panel);
  m.box[0] = panel, m.box[1] = std::min(b.box_w, 64), m.box[2] = 64 / m.box[1], m.box[3] = m.box[4] = 1;
  return m;
}

}  // namespace fsv::cuda
