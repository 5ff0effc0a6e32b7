// The depth-wise convolution in the simulator: wide and single channels, known and any width of the kernel,
// against fp64 under several schedules.
#include "cuda/kernels/conv3d_depthwise.cuh"

#include "simulator/cases/conv_run.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

template <class Tile, class T>
Made<T> run(const ConvData<T>& data, const sim::Options& options) {
  const ConvMemory<T> m(data);
  const DepthwiseTask task{m.conv, m.x ? m.x->ptr() : nullptr, m.before ? m.before->ptr() : nullptr,
                           m.packed->ptr(), m.epilogue()};
  const sim::Report report = sim::launch(depthwise_blocks<Tile>(m.conv), Tile::kThreads, 1, 0, options,
                                         [&] { conv3d_depthwise<Tile>(task); });
  return {m.result(), report};
}

ConvCase depthwise(ConvCase c, int channels) {
  c.channels = c.outputs = c.groups = channels;
  return c;
}

// clang-format off
const ConvCase kCases[] = {
    {.name = "3x3x3, all of the epilogue", .batch = 2, .frames = 3, .height = 3, .width = 18,
     .bias = true, .noise = true, .residual = true, .activation = Activation::silu},
    {.name = "long rows", .height = 2, .width = 50, .activation = Activation::gelu},
    {.name = "padding wider than the picture", .height = 2, .width = 2, .left = 3, .right = 4, .pad_h = 3, .pad_w = 5},
    {.name = "frames from before", .batch = 2, .frames = 3, .height = 3, .width = 4, .left = 0, .right = 0, .before = 2},
    {.name = "zeros in time", .frames = 2, .height = 3, .width = 9, .replicate = false},
    {.name = "group-causal 2", .frames = 5, .height = 2, .width = 3, .group_size = 2, .group_first = 1},
};
const ConvCase kFive = {.name = "5x5", .frames = 2, .height = 6, .width = 9, .kernel = {1, 5, 5}, .left = 0, .right = 0, .pad_h = 2, .pad_w = 2};
const ConvCase kStrides = {.name = "strides", .frames = 4, .height = 5, .width = 11, .stride = {2, 2, 2}, .replicate = false};
const ConvCase kParts = {.name = "parts", .batch = 2, .frames = 7, .height = 5, .width = 9, .left = 2, .right = 0};
const ConvCase kTraffic = {.name = "depth-wise 3x3x3", .frames = 4, .height = 16, .width = 32};
// clang-format on

template <class T, int kWide>
void test_type(int channels) {
  const auto any = [](const auto& d, const auto& o) { return run<DepthwiseTile<Bits<T>, kWide, 0>>(d, o); };
  const auto three = [](const auto& d, const auto& o) { return run<DepthwiseTile<Bits<T>, kWide, 3>>(d, o); };
  const auto five = [](const auto& d, const auto& o) { return run<DepthwiseTile<Bits<T>, kWide, 5>>(d, o); };
  for (const ConvCase& c : kCases) {
    check_values<T>(depthwise(c, channels), any);
    check_values<T>(depthwise(c, channels), three);
    const ConvData<T> data(depthwise(c, channels));
    same_bits(any(data, sim::Options{}).out, three(data, sim::Options{}).out, c.name);
  }
  check_values<T>(depthwise(kFive, channels), five);
  check_values<T>(depthwise(kFive, channels), any);
  check_values<T>(depthwise(kStrides, channels), any);
  check_parts<T>(depthwise(kParts, channels), {1, 3, 1, 2}, three);
}

}  // namespace

int main() {
  test_type<Bf16, 8>(40);
  test_type<Bf16, 1>(7);
  test_type<float, 4>(12);
  test_type<float, 1>(5);
  check_traffic<Bf16>(depthwise(kTraffic, 64), 14,
                      [](const auto& d, const auto& o) { return run<DepthwiseTile<uint16_t, 8, 3>>(d, o); });
  return sim::check::finish("conv3d_depthwise");
}
