// What the tests of all convolution kernels share: operands in the simulator's memory, the packed weight, the
// ways a launch is scheduled, and parts of a clip.
#pragma once

#include <span>

#include "cuda/kernels/pack_conv.cuh"
#include "simulator/kernels/conv_case.h"

namespace fsv::test {

template <class T>
std::unique_ptr<sim::Global<T>> upload(const std::vector<T>& values) {
  return values.empty() ? nullptr : std::make_unique<sim::Global<T>>(values);
}

/// What kernels take for a Bf16 or a float.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, float>;

/// Memory of one call.
template <class T>
struct ConvMemory {
  const ConvData<T>& data;
  Conv3dArgs args;
  cuda::kernels::Conv conv;
  cuda::kernels::ConvLayout layout;
  std::unique_ptr<sim::Global<T>> x, before, plain, residual, packed, out;
  std::unique_ptr<sim::Global<float>> bias, noise;
  sim::Report packing;

  explicit ConvMemory(const ConvData<T>& d)
      : data(d),
        args(d.c.args(sizeof(T) == 2 ? DType::bf16 : DType::f32)),
        conv(cuda::kernels::conv_of(args)),
        layout(cuda::kernels::conv_layout(args.weight.dtype, args.weight.shape, args.groups)),
        x(upload(d.x)),
        before(upload(d.before)),
        plain(upload(d.weight)),
        residual(upload(d.residual)),
        packed(std::make_unique<sim::Global<T>>(layout.elements())),
        out(std::make_unique<sim::Global<T>>(d.elements())),
        bias(upload(d.bias)),
        noise(upload(d.noise)) {
    packing = sim::launch(3, cuda::kernels::kPackConvThreads, 1, 0, {}, [&] {
      cuda::kernels::pack_conv<Bits<T>>(layout, reinterpret_cast<Bits<T>*>(plain->ptr()),
                                        reinterpret_cast<Bits<T>*>(packed->ptr()));
    });
    if (!packing.ok()) fail(d.c.name, packing.first());
  }

  cuda::kernels::ConvEpilogue epilogue() const {
    const auto pointer = [](const auto& p) { return p ? p->ptr() : nullptr; };
    return {pointer(bias),     pointer(noise),    data.c.kNoiseWeight,
            data.c.activation, pointer(residual), out->ptr()};
  }
  std::vector<T> result() const { return {out->ptr(), out->ptr() + data.elements()}; }
};

/// What a kernel made of a problem.
template <class T>
struct Made {
  std::vector<T> out;
  sim::Report report;
  std::string complaint = test::complaint(report);
};

/// run(data, options) -> Made<T>: right, and the same bits, whatever the schedule.
template <class T, class Run>
void check_values(const ConvCase& c, const Run& run, std::span<const Order> orders = kOrders) {
  const ConvData<T> data(c);
  std::vector<T> first;
  for (const Order& order : orders) {
    const Made<T> made = run(data, order.options());
    const std::string what = std::string(c.name) + ", " + order.name;
    std::string wrong = made.complaint;
    if (wrong.empty()) wrong = judge(made.out, data.truth, data.plain);
    if (!wrong.empty()) fail(what, wrong);
    if (first.empty()) first = made.out;
    if (!same_bits(first, made.out)) fail(what, "values: bits depend on the schedule");
  }
}

/// Frames [from, to) of a clip [B, T, ...].
template <class T>
std::vector<T> frames_of(const std::vector<T>& clip, int batch, int frames, int from, int to) {
  const size_t frame = clip.size() / batch / frames;
  std::vector<T> part;
  for (int b = 0; b < batch; b++)
    part.insert(part.end(), clip.begin() + (size_t(b) * frames + from) * frame,
                clip.begin() + (size_t(b) * frames + to) * frame);
  return part;
}

/// Samples one by one, and a causal clip in chunks with the frames before, have the bits of the whole.
template <class T, class Run>
void check_parts(const ConvCase& c, const std::vector<int>& chunks, const Run& run) {
  const ConvData<T> data(c);
  const std::vector<T> whole = run(data, sim::Options{}).out;
  for (int b = 0; b < c.batch; b++) {
    const auto sample = [&](const std::vector<T>& all) {
      const size_t size = all.size() / c.batch;
      return std::vector<T>(all.begin() + b * size, all.begin() + (b + 1) * size);
    };
    ConvData<T> one = data;
    one.c.batch = 1;
    one.x = sample(data.x);
    if (!same_bits(run(one, sim::Options{}).out, sample(whole)))
      fail(c.name, "values: bits of a sample depend on the batch");
  }
  int from = 0;
  for (const int count : chunks) {
    const int before = std::min(from, c.left);
    ConvData<T> part = data;
    part.c.frames = count, part.c.before = before, part.c.left = c.left - before;
    part.x = frames_of(data.x, c.batch, c.frames, from, from + count);
    part.before = frames_of(data.x, c.batch, c.frames, from - before, from);
    if (!same_bits(run(part, sim::Options{}).out,
                   frames_of(whole, c.batch, c.out_frames(), from, from + count)))
      fail(c.name, "values: bits of a chunk are not those of the clip");
    from += count;
  }
}

/// Global memory is read at most `most` times.
template <class T, class Run>
void check_traffic(const ConvCase& c, double most, const Run& run) {
  const ConvData<T> data(c);
  const sim::Report report = run(data, sim::Options{}).report;
  const double times = static_cast<double>(report.global_read) /
                       (sizeof(T) * static_cast<double>(data.x.size() + data.weight.size()));
  std::printf("%s: reads %.2f times the least\n", c.name, times);
  if (times > most) fail(c.name, "traffic: above " + std::to_string(most));
}

}  // namespace fsv::test
