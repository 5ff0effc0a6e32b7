// What the tests of all convolution kernels share: operands in the simulator's memory, the packed weight, the
// ways a launch is scheduled, and parts of a clip.
#pragma once

#include "cuda/kernels/pack_conv.cuh"
#include "simulator/cases/conv_case.h"

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
  std::unique_ptr<sim::Global<float>> bias, noise, norm_weight, norm_bias;
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
        noise(upload(d.noise)),
        norm_weight(upload(d.norm_weight)),
        norm_bias(upload(d.norm_bias)) {
    packing = sim::launch(3, cuda::kernels::kPackConvThreads, 1, 0, {}, [&] {
      cuda::kernels::pack_conv<Bits<T>>(layout, reinterpret_cast<Bits<T>*>(plain->ptr()),
                                        reinterpret_cast<Bits<T>*>(packed->ptr()));
    });
    sim::check::ok(packing, d.c.name);
  }

  cuda::kernels::ConvEpilogue epilogue() const {
    const auto pointer = [](const auto& p) { return p ? p->ptr() : nullptr; };
    return {.bias = pointer(bias),
            .noise = pointer(noise),
            .noise_weight = data.c.kNoiseWeight,
            .norm = data.c.norm,
            .norm_weight = pointer(norm_weight),
            .norm_bias = pointer(norm_bias),
            .norm_eps = data.c.norm_eps,
            .activation = data.c.activation,
            .residual = pointer(residual),
            .out = out->ptr()};
  }
  std::vector<T> result() const { return {out->ptr(), out->ptr() + data.elements()}; }
};

/// What a kernel made of a problem.
template <class T>
struct Made {
  std::vector<T> out;
  sim::Report report;
  bool shares_banks = false;  ///< it cannot do without bank conflicts
};

/// run(data, options) -> Made<T>: right, and the same bits, whatever the schedule. Nothing is run after a
/// failure: it would only repeat it.
template <class T, class Run>
void check_values(const ConvCase& c, const Run& run, const std::vector<sim::Options>& ways = schedules()) {
  const ConvData<T> data(c);
  std::vector<T> first;
  for (const sim::Options& options : ways) {
    if (sim::check::failures) return;
    const Made<T> made = run(data, options);
    const std::string what = std::string(c.name) + " " + sim::check::name_of(options);
    if (!(made.shares_banks ? sim::check::ok(made.report, what) : sound(made.report, what))) return;
    accurate(made.out, data.truth, data.plain, what);
    if (first.empty()) first = made.out;
    same_bits(first, made.out, what);
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
  if (sim::check::failures) return;
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
    same_bits(run(one, sim::Options{}).out, sample(whole),
              std::string(c.name) + ", sample " + std::to_string(b));
  }
  int from = 0;
  for (const int count : chunks) {
    const int before = std::min(from, c.left);
    ConvData<T> part = data;
    part.c.frames = count, part.c.before = before, part.c.left = c.left - before;
    part.x = frames_of(data.x, c.batch, c.frames, from, from + count);
    part.before = frames_of(data.x, c.batch, c.frames, from - before, from);
    same_bits(run(part, sim::Options{}).out, frames_of(whole, c.batch, c.out_frames(), from, from + count),
              std::string(c.name) + ", frames from " + std::to_string(from));
    from += count;
  }
}

/// Global memory is read at most `most` times.
template <class T, class Run>
void check_traffic(const ConvCase& c, double most, const Run& run) {
  if (sim::check::failures) return;
  const ConvData<T> data(c);
  const double read = static_cast<double>(run(data, sim::Options{}).report.global_read);
  const double times = read / static_cast<double>(sizeof(T) * (data.x.size() + data.weight.size()));
  std::printf("%s: reads %.2f times the least\n", c.name, times);
  if (times > most) sim::check::fail("traffic", "%s: more than %g times", c.name, most);
}

}  // namespace fsv::test
