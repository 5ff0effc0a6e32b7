// The convolution of every card in the simulator: both packings of the weight, whole and single elements,
// bf16 and f32, against fp64 under several schedules.
#include "cuda/kernels/conv3d_portable.cuh"

#include "simulator/cases/conv_run.h"

using namespace fsv;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

template <class Tile, class T>
Made<T> run(const ConvData<T>& data, const sim::Options& options) {
  const ConvMemory<T> m(data);
  const ConvGatherTask task =
      gather_task(m.conv, m.layout, sizeof(T), m.x ? m.x->ptr() : nullptr,
                  m.before ? m.before->ptr() : nullptr, m.packed->ptr(), m.epilogue());
  const sim::Report report =
      sim::launch(conv_gather_blocks<Tile>(m.conv), Tile::kThreads, 1, kConvGatherShared<Tile>, options,
                  [&] { conv3d_portable<Tile>(task); });
  return {m.result(), report, !task.whole_pieces};  // single elements lie 16 bytes apart
}

// clang-format off
const ConvCase kCases[] = {
    {.name = "a single number", .channels = 1, .outputs = 1, .kernel = {1, 1, 1}, .left = 0, .right = 0, .pad_h = 0, .pad_w = 0},
    {.name = "a picture comes in", .frames = 3, .height = 6, .width = 40, .channels = 3, .outputs = 16, .bias = true, .activation = Activation::silu},
    {.name = "a picture goes out", .frames = 2, .height = 3, .width = 67, .channels = 16, .outputs = 3,
     .bias = true, .noise = true, .residual = true, .activation = Activation::silu},
    {.name = "odd channels, primes", .batch = 2, .frames = 2, .height = 3, .width = 7, .channels = 7, .outputs = 37, .bias = true, .activation = Activation::gelu},
    {.name = "several tiles of outputs, an odd rest", .height = 2, .width = 3, .channels = 37, .outputs = 267, .activation = Activation::gelu_tanh},
    {.name = "slices of 64 and several steps of k", .frames = 2, .height = 5, .width = 9, .channels = 128, .outputs = 40, .noise = true},
    {.name = "slices of 16, half a step of k", .height = 3, .width = 5, .channels = 16, .outputs = 24, .kernel = {1, 1, 3}, .left = 0, .right = 0, .pad_h = 0},
    {.name = "a slice that is not full", .height = 3, .width = 5, .channels = 24, .outputs = 8},
    {.name = "eight channels", .height = 3, .width = 5, .channels = 8, .outputs = 8, .activation = Activation::relu},
    {.name = "strides", .frames = 5, .height = 6, .width = 7, .channels = 8, .outputs = 12, .stride = {2, 2, 3}, .left = 2, .right = 0},
    {.name = "strides beyond what TMA has", .height = 21, .width = 20, .channels = 16, .outputs = 12, .kernel = {1, 3, 3}, .stride = {1, 9, 10}, .left = 0, .right = 0},
    {.name = "patches", .height = 8, .width = 12, .channels = 3, .outputs = 33, .kernel = {1, 4, 4}, .stride = {1, 4, 4}, .left = 0, .right = 0, .pad_h = 0, .pad_w = 0},
    {.name = "padding wider than the picture", .height = 2, .width = 2, .channels = 8, .outputs = 8, .left = 3, .right = 4, .pad_h = 3, .pad_w = 5},
    {.name = "zeros in time", .frames = 2, .height = 3, .width = 4, .channels = 8, .outputs = 8, .replicate = false},
    {.name = "frames from before", .batch = 2, .frames = 3, .height = 3, .width = 4, .channels = 8, .outputs = 8, .left = 0, .right = 0, .before = 2},
    {.name = "nothing but frames from before", .frames = 0, .height = 3, .width = 4, .channels = 3, .outputs = 8, .left = 0, .right = 1, .before = 3},
    {.name = "group-causal 2, zeros", .frames = 5, .height = 2, .width = 3, .channels = 4, .outputs = 8, .group_size = 2, .group_first = 1, .replicate = false},
    {.name = "group-causal 3 with a frame before", .frames = 6, .height = 2, .width = 3, .channels = 4, .outputs = 8, .left = 0, .before = 1, .group_size = 3},
    {.name = "groups", .height = 3, .width = 4, .channels = 24, .outputs = 36, .groups = 3},
    {.name = "groups of 32", .frames = 2, .height = 3, .width = 4, .channels = 96, .outputs = 96, .kernel = {1, 1, 1},
     .left = 0, .right = 0, .pad_h = 0, .pad_w = 0, .groups = 3, .bias = true, .residual = true},
    {.name = "groups of one channel, two outputs", .height = 3, .width = 4, .channels = 6, .outputs = 12, .groups = 6},
};
const ConvCase kParts = {.name = "parts", .batch = 2, .frames = 7, .height = 5, .width = 9, .channels = 5, .outputs = 16,
                         .left = 2, .right = 0, .bias = true};
// clang-format on

template <class Tile, class T>
void test_tile() {
  const auto run_tile = [](const auto& data, const auto& options) { return run<Tile>(data, options); };
  const std::vector<sim::Options> ways = {schedules().front(),
                                          schedules().back()};  // little is asynchronous here
  for (const ConvCase& c : kCases) check_values<T>(c, run_tile, ways);
  check_parts<T>(kParts, {1, 3, 1, 2}, run_tile);
}

}  // namespace

int main() {
  test_tile<ConvMmaTile<128, 2>, Bf16>();
  test_tile<ConvMmaTile<32, 4>, Bf16>();
  test_tile<ConvFmaTile, float>();
  return sim::check::finish("conv3d_portable");
}
