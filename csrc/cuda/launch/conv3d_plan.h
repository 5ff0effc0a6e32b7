// How a convolution is run: which kernel, with which tiles. A pure function of sizes, tested on the host. The
// results do not depend on what is chosen here within a kernel; which kernel it is depends on nothing but the
// weight, the strides, the channels and whether there is a norm, so a clip gives the same bits in one call,
// in chunks and in any batch.
#pragma once

#include <algorithm>

#include "cuda/kernels/conv3d_sm90.cuh"
#include "cuda/tiled_map.h"

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
void consider(ConvTile tile, const Conv& c, const ConvLayout& l, const ConvDevice& device, bool norm,
              Conv3dPlan& plan, double& cost) {
  if (norm && (c.groups > 1 || c.out > Tile::kN)) return;
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

/// With `norm` a tile has all channels of its pixels; where none can, the plan is for another kernel, which
/// does not norm.
inline Conv3dPlan plan_conv3d(const kernels::Conv& c, const kernels::ConvLayout& l, const ConvDevice& device,
                              bool norm = false) {
  using namespace conv3d_plan_detail;
  Conv3dPlan plan;
  if (l.kind == ConvKind::depthwise) plan.kernel = ConvKernel::depthwise;
  if (l.kind != ConvKind::sliced || !device.hopper || c.stride_h > kMostStep || c.stride_w > kMostStep)
    return plan;
  double cost = 0;
  consider<Conv3dTile<2, 128>>(ConvTile::b2n128, c, l, device, norm, plan, cost);
  consider<Conv3dTile<1, 128>>(ConvTile::b1n128, c, l, device, norm, plan, cost);
  consider<Conv3dTile<2, 64>>(ConvTile::b2n64, c, l, device, norm, plan, cost);
  consider<Conv3dTile<2, 32>>(ConvTile::b2n32, c, l, device, norm, plan, cost);
  consider<Conv3dTile<2, 16>>(ConvTile::b2n16, c, l, device, norm, plan, cost);
  return plan;
}

namespace conv3d_plan_detail {

/// Frames [B, T, H, W, C].
inline TiledMap frames_map(const void* data, int channels, int width, int height, int frames, int batch) {
  TiledMap map = {.dtype = DType::bf16, .data = data, .rank = 5};
  map.dims = {channels, width, height, frames, batch};
  int64_t stride = size_of(DType::bf16);
  for (size_t i = 0; i < 4; i++) map.strides[i] = stride *= map.dims[i];
  return map;
}

inline ptx::Swizzle swizzle_of(int elements) {
  return elements == 64 ? ptx::SW_128 : elements == 32 ? ptx::SW_64 : ptx::SW_32;
}

}  // namespace conv3d_plan_detail

/// Bricks of `frames` frames of x or of before.
inline TiledMap brick_map(const kernels::Conv& c, const kernels::ConvBox& b, const void* data, int frames) {
  using namespace conv3d_plan_detail;
  TiledMap map = frames_map(data, c.channels, c.width, c.height, frames, c.batch);
  map.box = {b.slice, b.box_w, b.rows, 1, 1};
  map.steps = {1, c.stride_w, c.stride_h, 1, 1};
  map.swizzle = swizzle_of(b.slice);
  return map;
}

/// Tiles of `columns` outputs of the packed weight.
inline TiledMap weight_map(const kernels::ConvLayout& l, const kernels::ConvBox& b, int columns,
                           const void* data) {
  TiledMap map = {.dtype = DType::bf16, .data = data, .rank = 3};
  map.dims = {l.slice, l.out, l.groups * l.chunks()};
  map.strides = {l.slice * 2, l.out * l.slice * 2};
  map.box = {b.slice, columns, b.weight_taps};
  map.swizzle = conv3d_plan_detail::swizzle_of(b.slice);
  return map;
}

/// Blocks of 64 pixels and `panel` channels of the result.
inline TiledMap out_map(const kernels::Conv& c, const kernels::ConvBox& b, int panel, const void* data) {
  using namespace conv3d_plan_detail;
  TiledMap map = frames_map(data, c.out_channels, c.out_width, c.out_height, c.out_frames, c.batch);
  const int width = std::min(b.box_w, 64);
  map.box = {panel, width, 64 / width, 1, 1};
  map.swizzle = swizzle_of(panel);
  return map;
}

}  // namespace fsv::cuda
