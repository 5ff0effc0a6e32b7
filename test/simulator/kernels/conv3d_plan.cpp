// How convolutions are cut, on the host: every element of the packed weight comes from one of the plain
// weight and the other way round; every element of the result is in one tile; and what a plan asks of a card,
// the card has. For odd shapes of all kinds, and for those of the autoencoder at 704 x 1280, which a
// simulator could not run.
#include "cuda/launch/conv3d_plan.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <set>

#include "simulator/cases/conv_case.h"

using namespace fsv;
using namespace fsv::cuda;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

void fail(const std::string& what, const std::string& why) {
  sim::check::fail("values", "%s: %s", what.c_str(), why.c_str());
}

void check_layout(DType dtype, const Shape& weight, int64_t groups) {
  sim::check::checks++;
  const ConvLayout l = conv_layout(dtype, weight, groups);
  std::vector<int> seen(static_cast<size_t>(weight.elements()));
  for (int64_t i = 0; i < l.elements(); i++) {
    const int64_t from = l.source(i);
    if (from >= weight.elements()) fail("layout", "the layout beyond the weight");
    if (from >= 0) seen[static_cast<size_t>(from)]++;
  }
  for (int count : seen)
    if (count != 1) fail("layout", "the layout has an element " + std::to_string(count) + " times");
}

struct Network {
  const char* name;
  int frames, height, width, channels, outputs, kernel_t, kernel, groups = 1;
};

/// Each tile's share of the result, by volume and by place.
void check_cover(const char* name, const Conv& c, const Conv3dPlan& plan, int columns) {
  const ConvBox& b = plan.box;
  const Conv3dTask task{c, b, {}};
  std::set<std::array<int, 6>> places;
  int64_t covered = 0;
  for (int i = 0; i < b.tiles(c.batch); i++) {
    const auto at = [&] {
      using namespace conv3d_sm90_detail;
      return columns == 128  ? tile_at<128>(task, i)
             : columns == 64 ? tile_at<64>(task, i)
             : columns == 32 ? tile_at<32>(task, i)
                             : tile_at<16>(task, i);
    }();
    if (!places.insert({at.group, at.n, at.w, at.h, at.t, at.sample}).second)
      fail(name, "a tile comes twice");
    const auto part = [](int first, int size, int whole) {
      return int64_t{std::clamp(whole - first, 0, size)};
    };
    covered += part(at.n, columns, c.out) * part(at.w, b.box_w, c.out_width) *
               part(at.h, b.box_h, c.out_height) * part(at.t, b.box_t, c.out_frames);
  }
  if (covered != c.out_pixels() * c.out_channels)
    fail(name, "tiles cover " + std::to_string(covered) + " elements");
}

constexpr int kColumns[] = {128, 128, 64, 32, 16}, kBlocks[] = {2, 1, 2, 2, 2};

Conv3dPlan check_plan(const char* name, const Conv3dArgs& args, const ConvDevice& device) {
  sim::check::checks++;
  const Conv c = conv_of(args);
  const ConvLayout l = conv_layout(args.x.dtype, args.weight.shape, args.groups);
  const Conv3dPlan plan = plan_conv3d(c, l, device, args.norm);
  if (plan.kernel != ConvKernel::sm90) return plan;
  const int columns = kColumns[int(plan.tile)];
  const ConvBox& b = plan.box;
  const auto require = [&](bool holds, const char* what) {
    if (!holds) fail(name, std::string("the plan's ") + what);
  };
  require(b.box_t * b.box_h * b.box_w == 128 * kBlocks[int(plan.tile)], "pixels of a box");
  require(b.box_w % 8 == 0 && b.box_w * b.box_h >= 64, "blocks of 64 pixels in one frame");
  require(b.box_w * c.stride_w <= 256 && b.rows * c.stride_h <= 256, "boxes that TMA has");
  require(c.kh % b.taps == 0 && b.rows == b.box_h + b.taps - 1, "rows of a brick");
  require(b.brick_slots >= 2 && b.weight_slots >= 2 && b.brick_slots <= kMostConvSlots &&
              b.weight_slots <= kMostConvSlots,
          "slots");
  require(plan.shared_bytes <= device.shared_bytes, "shared memory");
  require(!args.norm || b.tiles_n == 1, "tile, which a norm wants to have all channels,");
  require(plan.blocks > 0 && plan.blocks <= device.processors, "blocks");
  check_cover(name, c, plan, columns);
  return plan;
}

/// Whether the kernel norms must not depend on how large the clip is: its chunks would have other bits.
void check_norm(ConvCase c, const ConvDevice& device) {
  const auto norms = [&] {
    return check_plan(c.name, c.args(DType::bf16), device).kernel == ConvKernel::sm90;
  };
  const bool plain = norms();
  c.norm = true;
  const bool normed = norms();
  if (normed != (plain && c.groups == 1 && c.outputs <= 128))
    fail(c.name, "it should norm what one tile has, and nothing else");
  c.batch = 1, c.frames = 1, c.height += 40;
  if (norms() != normed) fail(c.name, "a norm depends on the size of the clip");
}

}  // namespace

int main() {
  for (DType dtype : {DType::f32, DType::bf16})
    for (const auto& [weight, groups] :
         std::initializer_list<std::pair<Shape, int64_t>>{{{1, 1, 1, 1, 1}, 1},
                                                          {{5, 3, 3, 3, 3}, 1},
                                                          {{37, 7, 3, 1, 3}, 1},
                                                          {{8, 8, 2, 3, 1}, 1},
                                                          {{3, 24, 3, 3, 3}, 1},
                                                          {{16, 64, 1, 3, 3}, 1},
                                                          {{7, 96, 3, 2, 1}, 1},
                                                          {{4, 80, 1, 5, 1}, 1},
                                                          {{96, 32, 1, 1, 1}, 3},
                                                          {{12, 1, 3, 3, 3}, 6},
                                                          {{24, 8, 3, 3, 1}, 3},
                                                          {{70, 1, 3, 3, 3}, 70},
                                                          {{6, 130, 1, 2, 3}, 1}})
      check_layout(dtype, weight, groups);

  std::mt19937 random(5);
  const auto one_of = [&](std::initializer_list<int> values) {
    return values.begin()[random() % values.size()];
  };
  for (int i = 0; i < 400; i++) {
    ConvCase c = {.name = "any",
                  .batch = one_of({1, 2, 3}),
                  .frames = one_of({1, 2, 5, 17}),
                  .height = one_of({1, 7, 16, 33}),
                  .width = one_of({1, 5, 8, 70})};
    c.groups = one_of({1, 1, 1, 2});
    c.channels = c.groups * one_of({16, 24, 32, 64, 80, 96, 128, 200});
    c.outputs = c.groups * one_of({1, 3, 16, 33, 64, 72, 128, 300});
    for (int d = 0; d < 3; d++) c.kernel[d] = one_of({1, 1, 2, 3, 5}), c.stride[d] = one_of({1, 1, 1, 2, 8});
    c.left = c.right = c.pad_h = c.pad_w = 2;
    check_norm(c, {true, one_of({1, 2, 78, 132}), one_of({232448, 166912})});
  }

  // Convolutions of the autoencoder, by stage: 61 frames of 704 x 1280 in chunks of 4 latent frames.
  for (const Network& n : std::initializer_list<Network>{{"stage 0, 128", 16, 704, 1280, 128, 128, 3, 3},
                                                         {"stage 1, 256", 16, 352, 640, 256, 256, 3, 3},
                                                         {"stage 2, 512", 8, 176, 320, 512, 512, 3, 3},
                                                         {"stage 3, 512", 4, 88, 160, 512, 512, 3, 3},
                                                         {"stage 4, 1024", 4, 44, 80, 1024, 1024, 3, 3},
                                                         {"stage 5, 1024", 4, 22, 40, 1024, 1024, 3, 3},
                                                         {"stage 6, 1024", 4, 11, 20, 1024, 1024, 3, 3},
                                                         {"to a picture", 16, 704, 1280, 128, 3, 3, 3},
                                                         {"from latents", 4, 11, 20, 128, 1024, 3, 3},
                                                         {"groups of 32", 4, 44, 80, 3072, 3072, 1, 1, 96}}) {
    const ConvCase c = {.name = n.name,
                        .frames = n.frames,
                        .height = n.height,
                        .width = n.width,
                        .channels = n.channels,
                        .outputs = n.outputs,
                        .kernel = {n.kernel_t, n.kernel, n.kernel},
                        .left = n.kernel_t / 2,
                        .right = n.kernel_t / 2,
                        .pad_h = n.kernel / 2,
                        .pad_w = n.kernel / 2,
                        .groups = n.groups};
    const Conv3dPlan plan = check_plan(n.name, c.args(DType::bf16), {true, 132, 232448});
    const ConvBox& b = plan.box;
    constexpr int kPixels[] = {256, 128, 256, 256, 256};
    const double tiles = b.tiles(1), pixels = double(n.frames) * n.height * n.width;
    const double filled = pixels * n.outputs / (tiles * kColumns[int(plan.tile)] * kPixels[int(plan.tile)]);
    const double waves = tiles / plan.blocks, full = waves / std::ceil(waves);
    const double loaded = b.brick_bytes() / double(b.taps) + kColumns[int(plan.tile)] * b.slice * 2;
    const double flops = 2.0 * kColumns[int(plan.tile)] * kPixels[int(plan.tile)] * b.slice;
    std::printf(
        "%-14s %3d x %-3d box %d x %2d x %-3d slots %d + %d, edges %3.0f %%, waves %3.0f %%, %3.0f flops a "
        "byte of L2\n",
        n.name, kPixels[int(plan.tile)], kColumns[int(plan.tile)], b.box_t, b.box_h, b.box_w, b.brick_slots,
        b.weight_slots, 100 * filled, 100 * full, flops / loaded);
  }
  return sim::check::finish("conv3d_plan");
}
