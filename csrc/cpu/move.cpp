// Ops that only move elements, of any type: bytes are copied in runs as long as they lie together.
#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/backend.h"
#include "cpu/ranges.h"

namespace fsv::cpu {
namespace {

constexpr int64_t kRun = 128 << 10;  // bytes of a run that one worker copies at a time

struct Blocks {
  char* to;
  const char* from;
  int64_t count, bytes;        ///< blocks, and bytes of each
  int64_t to_step, from_step;  ///< bytes from a block to the next
};

void copy_blocks(ThreadPool& pool, const Blocks& blocks) {
  if (blocks.count == 0 || blocks.bytes == 0) return;
  const int64_t runs = (blocks.bytes + kRun - 1) / kRun;
  pool.parallel_for(blocks.count * runs, rows_a_range(std::min(blocks.bytes, kRun)),
                    [&](int64_t begin, int64_t end, int) {
                      for (int64_t i = begin; i < end; i++) {
                        const int64_t block = i / runs, first = i % runs * kRun;
                        std::memcpy(blocks.to + block * blocks.to_step + first,
                                    blocks.from + block * blocks.from_step + first,
                                    static_cast<size_t>(std::min(kRun, blocks.bytes - first)));
                      }
                    });
}

int64_t element_bytes(const TensorView& x) { return static_cast<int64_t>(size_of(x.dtype)); }

/// One axis of a copy between two orders of the same elements; steps in elements.
struct Axis {
  int64_t size, from_step, to_step;
};

/// The axes of a permutation, outermost of the result first, without those of one element and with those
/// merged that lie together in both orders.
int merged_axes(const PermuteArgs& args, Axis axes[kMaxRank]) {
  const Shape &x = args.x.shape, &y = args.out.shape;
  int count = 0;
  for (int i = 0; i < y.rank; i++) {
    const int from = args.order[i];
    const Axis axis = {y[i], x.elements(from + 1, x.rank), y.elements(i + 1, y.rank)};
    if (axis.size == 1) continue;
    Axis* outer = count > 0 ? &axes[count - 1] : nullptr;
    if (outer && outer->from_step == axis.size * axis.from_step)
      *outer = {outer->size * axis.size, axis.from_step, axis.to_step};
    else
      axes[count++] = axis;
  }
  return count;
}

/// Copies a plane of rows x columns elements in squares that fit the first-level cache both ways.
template <class T>
void copy_plane(const T* from, T* to, const Axis& rows, const Axis& columns) {
  constexpr int64_t kSquare = 32;
  for (int64_t r = 0; r < rows.size; r += kSquare)
    for (int64_t c = 0; c < columns.size; c += kSquare)
      for (int64_t i = r; i < std::min(r + kSquare, rows.size); i++)
        for (int64_t j = c; j < std::min(c + kSquare, columns.size); j++)
          to[i * rows.to_step + j * columns.to_step] = from[i * rows.from_step + j * columns.from_step];
}

/// The axis that is innermost in x and the one that is innermost in the result make planes; all others are
/// counted through by the pool, and so are strips of the plane.
template <class T>
void permute_elements(ThreadPool& pool, const T* from, T* to, Axis axes[kMaxRank], int count) {
  constexpr int64_t kStrip = 64;
  int inner = 0;
  for (int i = 0; i < count; i++)
    if (axes[i].from_step == 1) inner = i;
  const Axis columns = axes[count - 1];
  const Axis rows = inner == count - 1 ? Axis{1, 0, 0} : axes[inner];
  count--;
  if (inner < count) {
    for (int i = inner; i + 1 < count; i++) axes[i] = axes[i + 1];
    count--;
  }
  int64_t planes = 1;
  for (int i = 0; i < count; i++) planes *= axes[i].size;
  const int64_t strips = (rows.size + kStrip - 1) / kStrip;
  const int64_t strip_bytes = std::min(rows.size, kStrip) * columns.size * static_cast<int64_t>(sizeof(T));
  pool.parallel_for(planes * strips, rows_a_range(strip_bytes), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t first = i % strips * kStrip;
      int64_t plane = i / strips, from_at = first * rows.from_step, to_at = first * rows.to_step;
      for (int a = count - 1; a >= 0; a--) {
        from_at += plane % axes[a].size * axes[a].from_step;
        to_at += plane % axes[a].size * axes[a].to_step;
        plane /= axes[a].size;
      }
      const Axis strip = {std::min(kStrip, rows.size - first), rows.from_step, rows.to_step};
      copy_plane(from + from_at, to + to_at, strip, columns);
    }
  });
}

}  // namespace

void CpuBackend::concat(const ConcatArgs& args) {
  const Shape& y = args.out.shape;
  const int64_t outer = y.elements(0, args.axis),
                step = y.elements(args.axis, y.rank) * element_bytes(args.out);
  char* to = args.out.as<char>();
  for (int i = 0; i < args.count; i++) {
    const TensorView& part = args.parts[i];
    const int64_t bytes = part.shape.elements(args.axis, y.rank) * element_bytes(part);
    copy_blocks(pool_, {to, part.as<char>(), outer, bytes, step, bytes});
    to += bytes;
  }
}

void CpuBackend::slice(const SliceArgs& args) {
  const Shape &x = args.x.shape, &y = args.out.shape;
  const int64_t row = x.elements(args.axis + 1, x.rank) * element_bytes(args.x);
  const int64_t bytes = (args.end - args.start) * row;
  copy_blocks(pool_, {args.out.as<char>(), args.x.as<char>() + args.start * row, y.elements(0, args.axis),
                      bytes, bytes, x[args.axis] * row});
}

void CpuBackend::permute(const PermuteArgs& args) {
  if (args.x.elements() == 0) return;
  Axis axes[kMaxRank];
  const int count = merged_axes(args, axes);
  if (count <= 1) {  // the elements keep their order
    const int64_t bytes = args.x.bytes();
    return copy_blocks(pool_, {args.out.as<char>(), args.x.as<char>(), 1, bytes, bytes, bytes});
  }
  switch (element_bytes(args.x)) {
    case 1:
      return permute_elements(pool_, args.x.as<uint8_t>(), args.out.as<uint8_t>(), axes, count);
    case 2:
      return permute_elements(pool_, args.x.as<uint16_t>(), args.out.as<uint16_t>(), axes, count);
    default:
      return permute_elements(pool_, args.x.as<uint32_t>(), args.out.as<uint32_t>(), axes, count);
  }
}

void CpuBackend::fill(const FillArgs& args) {
  const auto fill_with = [&](auto value) {
    auto* out = args.out.as<decltype(value)>();
    pool_.parallel_for(args.out.elements(), kElementsARange,
                       [&](int64_t begin, int64_t end, int) { std::fill(out + begin, out + end, value); });
  };
  switch (args.out.dtype) {
    case DType::f32:
      return fill_with(args.value);
    case DType::bf16:
      return fill_with(to_bf16(args.value));
    case DType::f8e4m3:
      return fill_with(to_f8e4m3(args.value));
    case DType::i32:
      return fill_with(static_cast<int32_t>(args.value));
    case DType::u8:
      return fill_with(static_cast<uint8_t>(args.value));
  }
}

void CpuBackend::embedding(const EmbeddingArgs& args) {
  const int64_t rows = args.table.shape[0], channels = args.table.shape[1];
  const int64_t bytes = channels * element_bytes(args.table);
  pool_.parallel_for(args.ids.elements(), rows_a_range(bytes), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t id = args.ids.as<int32_t>()[i];
      char* out = args.out.as<char>() + i * bytes;
      if (id >= 0 && id < rows)
        std::memcpy(out, args.table.as<char>() + id * bytes, static_cast<size_t>(bytes));
      else if (args.out.dtype == DType::bf16)
        std::fill_n(reinterpret_cast<Bf16*>(out), channels, to_bf16(std::numeric_limits<float>::quiet_NaN()));
      else
        std::fill_n(reinterpret_cast<float*>(out), channels, std::numeric_limits<float>::quiet_NaN());
    }
  });
}

}  // namespace fsv::cpu
