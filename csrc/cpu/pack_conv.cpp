// Packing of convolution weights into the orders of conv_layout.h: once when a model is loaded, or for one
// call of `conv3d` when it is given a plain weight.
#include <cstring>

#include "cpu/conv_layout.h"
#include "cpu/pack.h"

namespace fsv::cpu {
namespace {

/// weight[o][c][t][h][w] by elements of `Bits`, as stored.
template <class Bits>
struct Source {
  const Bits* data;
  int64_t in, kt, kh, kw;

  Bits at(int64_t o, int64_t c, int64_t t, int64_t h, int64_t w) const {
    return data[(((o * in + c) * kt + t) * kh + h) * kw + w];
  }
};

/// Row `o` of our group `g` as the product sees it: [segments][kw][pixel], zeros where a merged group meets
/// another one's channels.
template <class Bits>
void gather_row(const Source<Bits>& source, const ConvLayout& l, int64_t g, int64_t o, Bits* row) {
  const int64_t out_of_one = l.out / l.merged, in_of_one = l.in / l.merged;
  const int64_t own = o / out_of_one;
  for (int64_t t = 0; t < l.kt; t++)
    for (int64_t h = 0; h < l.kh; h++) {
      Bits* segment = row + (l.folded ? t : t * l.kh + h) * l.k + (l.folded ? h * l.in : 0);
      for (int64_t w = 0; w < l.kw; w++)
        for (int64_t c = 0; c < l.in; c++)
          segment[w * l.pixel + c] =
              c / in_of_one == own ? source.at(g * l.out + o, c % in_of_one, t, h, w) : Bits{};
    }
}

template <class Bits>
void pack_dense(const PackArgs& args, const ConvLayout& l, const Source<Bits>& source, const Kernels& kernels,
                ThreadPool& pool) {
  const int64_t panels = panel_count(l.out), row_elements = l.segments * l.k;
  const int64_t segment = segment_bytes(args.weight.dtype, l.k);
  const size_t bytes = static_cast<size_t>(kPanelCols * row_elements) * sizeof(Bits);
  for (int w = 0; w < pool.size(); w++) pool.scratch(w, bytes);
  pool.parallel_for(l.groups * panels, 1, [&](int64_t begin, int64_t end, int worker) {
    Bits* rows = static_cast<Bits*>(pool.scratch(worker, bytes));
    for (int64_t i = begin; i < end; i++) {
      const int64_t g = i / panels, first = i % panels * kPanelCols;
      const int64_t cols = l.out - first < kPanelCols ? l.out - first : kPanelCols;
      for (int64_t o = 0; o < cols; o++) gather_row(source, l, g, first + o, rows + o * row_elements);
      PackTask task;
      task.dtype = args.weight.dtype;
      task.row_stride = row_elements;
      task.cols = cols;
      task.k = l.k;
      task.panel_stride = segment;
      for (int64_t s = 0; s < l.segments; s++) {
        task.weight = rows + s * l.k;
        task.panels = args.out.as<char>() + (i * l.segments + s) * segment;
        kernels.gemm->pack(task);
      }
    }
  });
}

template <class T, class Bits>
void pack_depthwise(const PackArgs& args, const ConvLayout& l, const Source<Bits>& source) {
  const int64_t width = (l.groups + 15) / 16 * 16;
  float* to = args.out.as<float>();
  for (int64_t t = 0; t < l.kt; t++)
    for (int64_t h = 0; h < l.kh; h++)
      for (int64_t w = 0; w < l.kw; w++, to += width)
        for (int64_t c = 0; c < width; c++)
          to[c] = c < l.groups ? to_float(std::bit_cast<T>(source.at(c, 0, t, h, w))) : 0;
}

template <class Bits>
void pack_narrow(const PackArgs& args, const ConvLayout& l, const Source<Bits>& source) {
  constexpr int64_t kInUnit = 4 / sizeof(Bits);
  Bits* to = args.out.as<Bits>();
  for (int64_t t = 0; t < l.kt; t++)
    for (int64_t h = 0; h < l.kh; h++)
      for (int64_t w = 0; w < l.kw; w++)
        for (int64_t unit = 0; unit < l.units; unit++)
          for (int64_t o = 0; o < l.out; o++)
            for (int64_t c = unit * kInUnit; c < (unit + 1) * kInUnit; c++)
              *to++ = c < l.in ? source.at(o, c, t, h, w) : Bits{};
}

template <class T, class Bits>
void pack_as(const PackArgs& args, const Kernels& kernels, ThreadPool& pool) {
  const Shape& shape = args.weight.shape;
  const ConvLayout l = conv_layout(args.weight.dtype, shape, args.groups);
  const Source<Bits> source{args.weight.as<const Bits>(), shape[1], l.kt, l.kh, l.kw};
  switch (l.kind) {
    case ConvKind::dense:
      return pack_dense(args, l, source, kernels, pool);
    case ConvKind::depthwise:
      return pack_depthwise<T>(args, l, source);
    case ConvKind::narrow:
      return pack_narrow(args, l, source);
  }
}

}  // namespace

size_t packed_conv_bytes(const PackArgs& args) {
  return static_cast<size_t>(conv_layout(args.weight.dtype, args.weight.shape, args.groups).bytes);
}

void pack_conv(const PackArgs& args, const Kernels& kernels, ThreadPool& pool) {
  if (args.weight.elements() == 0) return;
  if (args.weight.dtype == DType::f32)
    pack_as<float, uint32_t>(args, kernels, pool);
  else
    pack_as<Bf16, uint16_t>(args, kernels, pool);
}

}  // namespace fsv::cpu
