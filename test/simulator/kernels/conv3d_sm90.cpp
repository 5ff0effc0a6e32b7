// The Hopper convolution in the simulator: every tile shape and slice, all kinds of padding in time and
// space, carried frames, groups and strides, against fp64 under several schedules; chunks and batches bit for
// bit; how often memory is read.
#include "cuda/kernels/conv3d_sm90.cuh"

#include "cuda/launch/conv3d_plan.h"
#include "simulator/kernels/conv_case.h"

using namespace fsv;
using namespace fsv::cuda;
using namespace fsv::cuda::kernels;
using namespace fsv::test;

namespace {

sim::TensorMap encode(const MapSpec& m) {
  const auto list = [&](const auto* from, int count) {
    return std::vector<std::decay_t<decltype(*from)>>(from, from + count);
  };
  return sim::encode_tiled(const_cast<void*>(m.base), 2, list(m.extents, m.rank), list(m.strides, m.rank - 1),
                           list(m.box, m.rank), m.swizzle, list(m.steps, m.rank));
}

template <class T>
std::unique_ptr<sim::Global<T>> upload(const std::vector<T>& values) {
  return values.empty() ? nullptr : std::make_unique<sim::Global<T>>(values);
}
template <class T>
T* pointer(const std::unique_ptr<sim::Global<T>>& p) {
  return p ? p->ptr() : nullptr;
}

struct Result {
  std::vector<Bf16> out;
  sim::Report report;
  Conv3dPlan plan;
};

template <class Tile>
sim::Report launch(const ConvData<Bf16>& data, const Conv& c, const ConvLayout& l, const Conv3dPlan& plan,
                   const sim::Options& options, sim::Global<Bf16>& out) {
  const auto x = upload(data.x), before = upload(data.before), residual = upload(data.residual);
  const auto bias = upload(data.bias), noise = upload(data.noise);
  std::vector<Bf16> packed(l.elements());
  for (int64_t i = 0; i < l.elements(); i++) packed[i] = l.source(i) < 0 ? Bf16{} : data.weight[l.source(i)];
  const auto weight = upload(packed);
  const ConvBox& b = plan.box;
  const auto x_map =
      encode(x ? brick_map(c, b, x->ptr(), c.frames) : brick_map(c, b, before->ptr(), c.before));
  const auto before_map = before ? encode(brick_map(c, b, before->ptr(), c.before)) : x_map;
  const auto weights = encode(weight_map(l, b, Tile::kN, weight->ptr()));
  const auto out_to = b.store_by_tma ? encode(out_map(c, b, Tile::kPanel, out.ptr())) : x_map;
  const Conv3dTask task{
      c,
      b,
      {pointer(bias), pointer(noise), data.kNoiseWeight, data.c.activation, pointer(residual), out.ptr()}};
  return sim::launch(plan.blocks, Tile::kThreads, 1, plan.shared_bytes, options,
                     [&] { conv3d_sm90<Tile>(x_map, before_map, weights, out_to, task); });
}

Result run(const ConvData<Bf16>& data, const sim::Options& options, int processors = 2) {
  const Conv3dArgs args = data.args();
  const Conv c = conv_of(args);
  const ConvLayout l = conv_layout(DType::bf16, args.weight.shape, args.groups);
  Result r;
  r.plan = plan_conv3d(c, l, {true, processors, 232448});
  sim::Global<Bf16> out(data.elements());
  switch (r.plan.tile) {
    case ConvTile::b2n128:
      r.report = launch<Conv3dTile<2, 128>>(data, c, l, r.plan, options, out);
      break;
    case ConvTile::b1n128:
      r.report = launch<Conv3dTile<1, 128>>(data, c, l, r.plan, options, out);
      break;
    case ConvTile::b2n64:
      r.report = launch<Conv3dTile<2, 64>>(data, c, l, r.plan, options, out);
      break;
    case ConvTile::b2n32:
      r.report = launch<Conv3dTile<2, 32>>(data, c, l, r.plan, options, out);
      break;
    case ConvTile::b2n16:
      r.report = launch<Conv3dTile<2, 16>>(data, c, l, r.plan, options, out);
      break;
  }
  r.out.assign(out.ptr(), out.ptr() + data.elements());
  return r;
}

bool same(const std::vector<Bf16>& a, const std::vector<Bf16>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(Bf16)) == 0;
}

void check(const ConvCase& c, int processors = 2) {
  const ConvData<Bf16> data(c);
  std::vector<Bf16> first;
  for (const Way& way : kWays) {
    sim::Options o;
    o.seed = way.seed, o.schedule = way.schedule, o.async = way.async;
    const Result r = run(data, o, processors);
    const std::string what = std::string(c.name) + ", " + way.name;
    if (r.plan.kernel != ConvKernel::sm90) return fail(what, "PLAN is not for this kernel");
    std::string wrong = r.report.first();
    if (wrong.empty()) wrong = data.judge(r.out.data());
    if (!wrong.empty()) return fail(what, wrong);
    if (first.empty()) first = r.out;
    if (!same(first, r.out)) return fail(what, "BITS depend on the schedule");
    const ConvBox& b = r.plan.box;
    if (&way == kWays)
      std::printf("%-40s tile %d box %dx%dx%d taps %d slice %dx%d slots %d+%d\n", c.name, int(r.plan.tile),
                  b.box_t, b.box_h, b.box_w, b.taps, b.slice, b.slices, b.brick_slots, b.weight_slots);
  }
}

/// Frames [from, to) of a clip [B, T, ...].
std::vector<Bf16> frames_of(const std::vector<Bf16>& clip, int batch, int frames, int from, int to) {
  const size_t frame = clip.size() / batch / frames;
  std::vector<Bf16> part;
  for (int b = 0; b < batch; b++)
    part.insert(part.end(), clip.begin() + (size_t(b) * frames + from) * frame,
                clip.begin() + (size_t(b) * frames + to) * frame);
  return part;
}

/// Samples one by one, and the clip in chunks with the frames before, give the bits of the whole.
void check_parts(const ConvCase& c, const std::vector<int>& chunks) {
  const ConvData<Bf16> data(c);
  const std::vector<Bf16> whole = run(data, {}).out;
  for (int b = 0; b < c.batch; b++) {
    ConvData<Bf16> one = data;
    one.c.batch = 1;
    one.x = {data.x.begin() + b * data.x.size() / c.batch,
             data.x.begin() + (b + 1) * data.x.size() / c.batch};
    const std::vector<Bf16> expected = {whole.begin() + b * whole.size() / c.batch,
                                        whole.begin() + (b + 1) * whole.size() / c.batch};
    if (!same(run(one, {}).out, expected)) fail(c.name, "BITS of a sample depend on the batch");
  }
  int from = 0;
  for (const int count : chunks) {
    const int before = std::min(from, c.left);
    ConvData<Bf16> part = data;
    part.c.frames = count, part.c.before = before, part.c.left = c.left - before;
    part.x = frames_of(data.x, c.batch, c.frames, from, from + count);
    part.before = frames_of(data.x, c.batch, c.frames, from - before, from);
    if (!same(run(part, {}, 3).out, frames_of(whole, c.batch, c.out_frames(), from, from + count)))
      fail(c.name, "BITS of a chunk are not those of the clip");
    from += count;
  }
}

/// Global traffic over the least there is, and wavefronts of shared memory over the fewest.
void check_traffic(const ConvCase& c, double most) {
  const ConvData<Bf16> data(c);
  sim::Options o;
  o.count = true;
  const Result r = run(data, o, 4);
  const double least = 2.0 * (data.x.size() + data.weight.size()), read = double(r.report.global_read);
  std::printf("%s: reads %.2f times the least\n", c.name, read / least);
  if (read > most * least) fail(c.name, "TRAFFIC above " + std::to_string(most));
  for (const auto& [line, n] : r.report.shared)
    if (n.units > n.least) fail(c.name, "BANK conflicts at " + line);
}

}  // namespace

int main() {
  using enum Activation;
  check({.name = "one slice of 64",
         .frames = 2,
         .height = 9,
         .width = 11,
         .channels = 64,
         .outputs = 128,
         .bias = true});
  check({.name = "two slices, an odd rest of outputs, all of the epilogue",
         .frames = 3,
         .height = 5,
         .width = 17,
         .channels = 128,
         .outputs = 72,
         .bias = true,
         .noise = true,
         .residual = true,
         .activation = silu});
  check({.name = "three slices of 32", .height = 7, .width = 7, .channels = 96, .outputs = 96, .noise = true},
        1);
  check({.name = "five slices of 16",
         .batch = 2,
         .height = 3,
         .width = 33,
         .channels = 80,
         .outputs = 32,
         .activation = gelu});
  check({.name = "a slice that is not full",
         .frames = 2,
         .height = 5,
         .width = 3,
         .channels = 24,
         .outputs = 24,
         .activation = relu});
  check({.name = "two tiles of outputs",
         .height = 8,
         .width = 16,
         .channels = 16,
         .outputs = 256,
         .bias = true});
  check({.name = "outputs of a picture",
         .frames = 2,
         .height = 17,
         .width = 19,
         .channels = 32,
         .outputs = 3,
         .bias = true,
         .noise = true,
         .residual = true,
         .activation = gelu_tanh});
  check({.name = "outputs that TMA cannot address",
         .height = 4,
         .width = 9,
         .channels = 16,
         .outputs = 67,
         .residual = true});
  check({.name = "a single pixel", .channels = 16, .outputs = 8, .left = 2, .right = 0});
  check({.name = "pointwise",
         .frames = 2,
         .height = 13,
         .width = 11,
         .channels = 64,
         .outputs = 40,
         .kernel = {1, 1, 1},
         .left = 0,
         .right = 0,
         .pad_h = 0,
         .pad_w = 0,
         .noise = true,
         .residual = true});
  check({.name = "pointwise, over time",
         .frames = 4,
         .height = 3,
         .width = 5,
         .channels = 16,
         .outputs = 16,
         .kernel = {3, 1, 1},
         .pad_h = 0,
         .pad_w = 0});
  check({.name = "five taps each way",
         .height = 11,
         .width = 12,
         .channels = 32,
         .outputs = 16,
         .kernel = {1, 5, 5},
         .left = 0,
         .right = 0,
         .pad_h = 2,
         .pad_w = 2});
  check({.name = "seven taps down, more than a slot of the weight",
         .height = 9,
         .width = 9,
         .channels = 32,
         .outputs = 16,
         .kernel = {1, 7, 1},
         .left = 0,
         .right = 0,
         .pad_h = 3,
         .pad_w = 0});
  check({.name = "more taps down than a box",
         .height = 300,
         .width = 2,
         .channels = 16,
         .outputs = 16,
         .kernel = {1, 260, 1},
         .left = 0,
         .right = 0,
         .pad_h = 0,
         .pad_w = 0});
  check({.name = "padding wider than the picture",
         .frames = 1,
         .height = 2,
         .width = 2,
         .channels = 16,
         .outputs = 16,
         .left = 3,
         .right = 4,
         .pad_h = 3,
         .pad_w = 5});
  check({.name = "no padding",
         .frames = 3,
         .height = 4,
         .width = 9,
         .channels = 16,
         .outputs = 16,
         .left = 0,
         .right = 0,
         .pad_h = 0,
         .pad_w = 0});
  check({.name = "zeros in time",
         .frames = 2,
         .height = 3,
         .width = 4,
         .channels = 16,
         .outputs = 16,
         .replicate = false});
  check({.name = "frames from before",
         .batch = 2,
         .frames = 3,
         .height = 3,
         .width = 4,
         .channels = 16,
         .outputs = 16,
         .left = 0,
         .right = 0,
         .before = 2});
  check({.name = "nothing but frames from before",
         .frames = 0,
         .height = 3,
         .width = 4,
         .channels = 16,
         .outputs = 16,
         .left = 0,
         .right = 1,
         .before = 3});
  for (int size : {1, 2, 4})
    for (int first : {0, 1})
      check({.name = "group-causal",
             .frames = 5,
             .height = 2,
             .width = 3,
             .channels = 16,
             .outputs = 16,
             .left = 1 - first,
             .right = 1,
             .before = first,
             .group_size = size,
             .group_first = first,
             .replicate = size != 2});
  check({.name = "groups of whole tiles",
         .height = 5,
         .width = 6,
         .channels = 32,
         .outputs = 128,
         .groups = 2,
         .bias = true});
  check({.name = "groups that TMA cannot store",
         .height = 5,
         .width = 6,
         .channels = 48,
         .outputs = 72,
         .groups = 3,
         .bias = true});
  check({.name = "pointwise groups of 32",
         .height = 10,
         .width = 12,
         .channels = 96,
         .outputs = 96,
         .kernel = {1, 1, 1},
         .left = 0,
         .right = 0,
         .pad_h = 0,
         .pad_w = 0,
         .groups = 3});

  check_parts({.name = "parts",
               .batch = 2,
               .frames = 7,
               .height = 5,
               .width = 9,
               .channels = 32,
               .outputs = 16,
               .left = 2,
               .right = 0,
               .bias = true},
              {1, 3, 1, 2});
  check_traffic({.name = "3x3x3", .frames = 4, .height = 32, .width = 32, .channels = 64, .outputs = 64}, 14);
  return failures > 0;
}
