// The Hopper convolution in the simulator: every tile shape and slice, all kinds of padding in time and
// space, carried frames, groups and strides, against fp64 under several schedules; chunks and batches bit for
// bit; how often memory is read.
#include "cuda/kernels/conv3d_sm90.cuh"

#include <cstdio>

#include "cuda/launch/conv3d_plan.h"
#include "simulator/cases/conv_run.h"

using namespace fsv;
using namespace fsv::cuda;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

sim::TensorMap encode(const TiledMap& m) {
  const std::vector<int64_t> dims(m.dims.begin(), m.dims.begin() + m.rank);
  const std::vector<int64_t> strides(m.strides.begin(), m.strides.begin() + m.rank - 1);
  std::vector<int> box, steps(m.steps.begin(), m.steps.begin() + m.rank);
  for (int i = 0; i < m.rank; i++) box.push_back(m.box[i] * m.steps[i]);
  return sim::encode_tiled(const_cast<void*>(m.data), 2, dims, strides, box, m.swizzle, steps);
}

template <class Tile>
sim::Report launch(const ConvMemory<Bf16>& m, const Conv3dPlan& plan, const sim::Options& options) {
  const Conv& c = m.conv;
  const ConvBox& b = plan.box;
  const auto before = m.before ? encode(brick_map(c, b, m.before->ptr(), c.before)) : sim::TensorMap{};
  const auto x = m.x ? encode(brick_map(c, b, m.x->ptr(), c.frames)) : before;
  const auto weight = encode(weight_map(m.layout, b, Tile::kN, m.packed->ptr()));
  const auto out = b.store_by_tma ? encode(out_map(c, b, Tile::kPanel, m.out->ptr())) : sim::TensorMap{};
  const Conv3dTask task{c, b, m.epilogue()};
  return sim::launch(plan.blocks, Tile::kThreads, 1, plan.shared_bytes, options,
                     [&] { conv3d_sm90<Tile>(x, before, weight, out, task); });
}

/// On few processors, so that blocks have several tiles, rings wrap and stages are used again.
Made<Bf16> run(const ConvData<Bf16>& data, const sim::Options& options, int processors = 2) {
  const ConvMemory<Bf16> memory(data);
  const Conv3dPlan plan = plan_conv3d(memory.conv, memory.layout, {true, processors, 232448}, data.c.norm);
  if (plan.kernel != ConvKernel::sm90)
    sim::check::fail("values", "%s: the plan is for another kernel", data.c.name);
  const auto report = [&] {
    switch (plan.tile) {
      case ConvTile::b2n128:
        return launch<Conv3dTile<2, 128>>(memory, plan, options);
      case ConvTile::b1n128:
        return launch<Conv3dTile<1, 128>>(memory, plan, options);
      case ConvTile::b2n64:
        return launch<Conv3dTile<2, 64>>(memory, plan, options);
      case ConvTile::b2n32:
        return launch<Conv3dTile<2, 32>>(memory, plan, options);
      default:
        return launch<Conv3dTile<2, 16>>(memory, plan, options);
    }
  }();
  return {memory.result(), report};
}

void check(const ConvCase& c, int processors = 2) {
  check_values<Bf16>(c,
                     [&](const auto& data, const auto& options) { return run(data, options, processors); });
}

// clang-format off
const ConvCase kCases[] = {
    {.name = "one slice of 64", .frames = 2, .height = 9, .width = 11, .channels = 64, .outputs = 128, .bias = true},
    {.name = "two slices, an odd rest of outputs, all of the epilogue", .frames = 3, .height = 5, .width = 17, .channels = 128, .outputs = 72,
     .bias = true, .noise = true, .residual = true, .activation = Activation::silu},
    {.name = "five slices of 16", .batch = 2, .height = 3, .width = 33, .channels = 80, .outputs = 32, .activation = Activation::gelu},
    {.name = "a slice that is not full", .frames = 2, .height = 5, .width = 3, .channels = 24, .outputs = 24, .activation = Activation::relu},
    {.name = "two tiles of outputs", .height = 8, .width = 16, .channels = 16, .outputs = 256, .bias = true},
    {.name = "outputs of a picture", .frames = 2, .height = 17, .width = 19, .channels = 32, .outputs = 3,
     .bias = true, .noise = true, .residual = true, .activation = Activation::gelu_tanh},
    {.name = "outputs that TMA cannot address", .height = 4, .width = 9, .channels = 16, .outputs = 67, .residual = true},
    {.name = "a single pixel", .channels = 16, .outputs = 8, .left = 2, .right = 0},
    {.name = "pointwise", .frames = 2, .height = 13, .width = 11, .channels = 64, .outputs = 40, .kernel = {1, 1, 1},
     .left = 0, .right = 0, .pad_h = 0, .pad_w = 0, .noise = true, .residual = true},
    {.name = "pointwise over time", .frames = 4, .height = 3, .width = 5, .kernel = {3, 1, 1}, .pad_h = 0, .pad_w = 0},
    {.name = "five taps each way", .height = 11, .width = 12, .channels = 32, .kernel = {1, 5, 5}, .left = 0, .right = 0, .pad_h = 2, .pad_w = 2},
    {.name = "more taps down than a slot of the weight", .height = 9, .width = 9, .channels = 32, .kernel = {1, 7, 1},
     .left = 0, .right = 0, .pad_h = 3, .pad_w = 0},
    {.name = "more taps down than a box", .height = 300, .width = 2, .kernel = {1, 260, 1}, .left = 0, .right = 0, .pad_h = 0, .pad_w = 0},
    {.name = "padding wider than the picture", .height = 2, .width = 2, .left = 3, .right = 4, .pad_h = 3, .pad_w = 5},
    {.name = "no padding", .frames = 3, .height = 4, .width = 9, .left = 0, .right = 0, .pad_h = 0, .pad_w = 0},
    {.name = "strides", .frames = 5, .height = 12, .width = 21, .channels = 64, .stride = {2, 2, 2}, .left = 2, .right = 0, .bias = true},
    {.name = "patches", .height = 9, .width = 24, .channels = 32, .kernel = {1, 3, 8}, .stride = {1, 3, 8}, .left = 0, .right = 0, .pad_h = 0, .pad_w = 0},
    {.name = "a stride across alone", .height = 5, .width = 40, .stride = {1, 1, 3}, .left = 1, .right = 1},
    {.name = "zeros in time", .frames = 2, .height = 3, .width = 4, .replicate = false},
    {.name = "frames from before", .batch = 2, .frames = 3, .height = 3, .width = 4, .left = 0, .right = 0, .before = 2},
    {.name = "nothing but frames from before", .frames = 0, .height = 3, .width = 4, .left = 0, .right = 1, .before = 3},
    {.name = "group-causal 1", .frames = 5, .height = 2, .width = 3, .group_size = 1, .group_first = 1},
    {.name = "group-causal 2, zeros", .frames = 5, .height = 2, .width = 3, .group_size = 2, .group_first = 1, .replicate = false},
    {.name = "group-causal 4 with a frame before", .frames = 6, .height = 2, .width = 3, .left = 0, .before = 1, .group_size = 4},
    {.name = "groups of whole tiles", .height = 5, .width = 6, .channels = 32, .outputs = 128, .groups = 2, .bias = true},
    {.name = "groups that TMA cannot store", .height = 5, .width = 6, .channels = 48, .outputs = 72, .groups = 3, .bias = true},
    {.name = "pointwise groups of 32", .height = 10, .width = 12, .channels = 96, .outputs = 96, .kernel = {1, 1, 1},
     .left = 0, .right = 0, .pad_h = 0, .pad_w = 0, .groups = 3},
    {.name = "a norm of one channel", .height = 5, .width = 9, .outputs = 1, .norm = true, .activation = Activation::silu},
    {.name = "a norm of a picture", .frames = 2, .height = 7, .width = 9, .outputs = 3, .bias = true, .noise = true, .residual = true,
     .norm = true, .norm_weight = true, .norm_bias = true},
    {.name = "a norm of 16 channels, tiles of 16", .height = 9, .width = 13, .outputs = 16, .noise = true, .residual = true, .norm = true},
    {.name = "a norm of 24 channels, with an eps that counts", .frames = 2, .height = 9, .width = 11, .channels = 32, .outputs = 24, .bias = true,
     .norm = true, .norm_weight = true, .norm_eps = 0.5f, .activation = Activation::relu},
    {.name = "a norm of 64 channels", .batch = 2, .height = 8, .width = 8, .channels = 64, .outputs = 64, .residual = true, .norm = true, .norm_bias = true},
    {.name = "a norm of 67 channels", .height = 4, .width = 9, .outputs = 67, .noise = true, .residual = true, .norm = true, .norm_weight = true},
    {.name = "a norm of 128 channels", .frames = 3, .height = 6, .width = 17, .channels = 32, .outputs = 128, .bias = true, .noise = true, .residual = true,
     .norm = true, .norm_weight = true, .norm_bias = true},
    {.name = "a norm of 128 channels of few pixels", .height = 3, .width = 5, .outputs = 128, .norm = true, .activation = Activation::gelu},
    {.name = "a norm, strides and zeros in time", .frames = 5, .height = 6, .width = 21, .outputs = 40, .stride = {2, 2, 2}, .left = 2, .right = 0,
     .replicate = false, .noise = true, .norm = true},
};
const ConvCase kThreeSlices = {.name = "three slices of 32", .height = 7, .width = 7, .channels = 96, .outputs = 96, .noise = true};
const ConvCase kParts = {.name = "parts", .batch = 2, .frames = 7, .height = 5, .width = 9, .channels = 32, .outputs = 16,
                         .left = 2, .right = 0, .bias = true};
const ConvCase kNormedParts = {.name = "normed parts", .batch = 2, .frames = 7, .height = 5, .width = 9, .channels = 32, .outputs = 40,
                               .left = 2, .right = 0, .bias = true, .norm = true, .norm_weight = true};
const ConvCase kTraffic = {.name = "3x3x3", .frames = 4, .height = 32, .width = 32, .channels = 64, .outputs = 64};
// clang-format on

/// A norm moves nothing that the convolution does not move; after it, it would read and write the result.
void check_norm_traffic(const ConvCase& plain) {
  if (sim::check::failures) return;
  const auto moved = [](const ConvCase& c) {
    const ConvData<Bf16> data(c);
    const sim::Report report = run(data, {}, 4).report;
    return static_cast<double>(report.global_read + report.global_written);
  };
  ConvCase normed = plain;
  normed.norm = true;
  const ConvData<Bf16> data(normed);
  const double least = 2.0 * static_cast<double>(data.x.size() + data.weight.size() + data.elements());
  const double alone = moved(plain), fused = moved(normed),
               apart = alone + 2 * 2.0 * static_cast<double>(data.elements());
  std::printf("a norm of 3x3x3: %.2f times the least bytes, by itself %.2f\n", fused / least, apart / least);
  if (fused > alone)
    sim::check::fail("traffic", "a norm moves %.0f bytes more than the convolution", fused - alone);
}

}  // namespace

int main() {
  for (const ConvCase& c : kCases) check(c);
  check(kThreeSlices, 1);
  check_parts<Bf16>(kParts, {1, 3, 1, 2},
                    [](const auto& data, const auto& o) { return run(data, o, data.c.frames % 3 + 1); });
  check_parts<Bf16>(kNormedParts, {1, 3, 1, 2},
                    [](const auto& data, const auto& o) { return run(data, o, data.c.frames % 3 + 1); });
  check_norm_traffic(kTraffic);
  check_traffic<Bf16>(kTraffic, 14, [](const auto& data, const auto& o) { return run(data, o, 4); });
  return sim::check::finish("conv3d_sm90");
}
