// Ops that only move elements: rows of the widest units that all addresses and steps allow, or transposed
// planes.
#include "cuda/backend.h"
#include "cuda/kernels/move.cuh"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {
namespace {

using kernels::Axis;
using kernels::CopyTask;

/// body(bytes) with bytes.value the unit.
template <class Body>
void with_unit(int64_t bytes, const Body& body) {
  if (bytes == 16) return body(std::integral_constant<int, 16>{});
  if (bytes == 8) return body(std::integral_constant<int, 8>{});
  if (bytes == 4) return body(std::integral_constant<int, 4>{});
  if (bytes == 2) return body(std::integral_constant<int, 2>{});
  body(std::integral_constant<int, 1>{});
}

/// A copy whose columns lie together on both sides, all sizes and steps in elements of `element` bytes.
void launch_rows(cudaStream_t stream, CopyTask task, int64_t element) {
  const auto each_step = [&](const auto& body) {
    for (int a = 0; a < task.outer_count; a++) body(task.outer[a].from_step), body(task.outer[a].to_step);
    body(task.rows.from_step), body(task.rows.to_step), body(task.columns.size);
  };
  int64_t unit = std::min(unit_of(task.from), unit_of(task.to));
  each_step([&](int64_t& step) { unit = std::min(unit, unit_of(step * element)); });
  each_step([&](int64_t& step) { step = step * element / unit; });
  if (task.planes * task.rows.size * task.columns.size == 0) return;
  with_unit(unit, [&](auto bytes) {
    launch(stream, kernels::copy_rows<bytes>,
           shape_of(plan_sheet(task.rows.size, task.columns.size, task.planes)), task);
  });
}

int64_t element_bytes(const TensorView& x) { return static_cast<int64_t>(size_of(x.dtype)); }

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

}  // namespace

void CudaBackend::concat(const ConcatArgs& args) {
  const Shape& y = args.out.shape;
  const int64_t outer = y.elements(0, args.axis), step = y.elements(args.axis, y.rank);
  char* to = args.out.as<char>();
  for (int i = 0; i < args.count; i++) {
    const TensorView& part = args.parts[i];
    const int64_t size = part.shape.elements(args.axis, y.rank);
    CopyTask task = {.from = part.data, .to = to, .outer_count = 0, .planes = 1};
    task.rows = {outer, size, step}, task.columns = {size, 1, 1};
    launch_rows(stream(), task, element_bytes(part));
    to += size * element_bytes(part);
  }
}

void CudaBackend::slice(const SliceArgs& args) {
  const Shape &x = args.x.shape, &y = args.out.shape;
  const int64_t row = x.elements(args.axis + 1, x.rank), size = (args.end - args.start) * row;
  CopyTask task = {.from = args.x.as<char>() + args.start * row * element_bytes(args.x),
                   .to = args.out.data,
                   .outer_count = 0,
                   .planes = 1};
  task.rows = {y.elements(0, args.axis), x[args.axis] * row, size}, task.columns = {size, 1, 1};
  launch_rows(stream(), task, element_bytes(args.x));
}

void CudaBackend::permute(const PermuteArgs& args) {
  if (args.x.elements() == 0) return;
  CopyTask task = {.from = args.x.data, .to = args.out.data, .outer_count = 0, .planes = 1};
  Axis axes[kMaxRank];
  int count = merged_axes(args, axes);
  if (count <= 1)  // the elements keep their order
    return copy(args.out.data, args.x.data, static_cast<size_t>(args.x.bytes()));
  task.columns = axes[--count];
  const bool together = task.columns.from_step == 1;
  int rows = count - 1;
  if (!together)
    while (axes[rows].from_step != 1) rows--;
  task.rows = axes[rows];
  for (int i = 0; i < count; i++) {
    if (i == rows) continue;
    task.outer[task.outer_count++] = axes[i];
    task.planes *= axes[i].size;
  }
  if (together) return launch_rows(stream(), task, element_bytes(args.x));
  const auto squares = [](int64_t size) { return (size + kernels::kSquare - 1) / kernels::kSquare; };
  const int64_t all = task.planes * squares(task.rows.size) * squares(task.columns.size);
  const LaunchShape shape = {.grid = static_cast<unsigned>(std::min(all, kMostBlocks)),
                             .block = kernels::kSquareThreads,
                             .smem = kernels::kSquareShared};
  with_unit(element_bytes(args.x), [&](auto bytes) {
    if constexpr (bytes <= 4) launch(kernels::transpose<bytes>, shape, task);
  });
}

void CudaBackend::embedding(const EmbeddingArgs& args) {
  if (args.out.elements() == 0) return;
  const int64_t bytes = args.table.shape[1] * element_bytes(args.table);
  const int64_t unit = std::min({unit_of(args.table.data), unit_of(args.out.data), unit_of(bytes)});
  const kernels::EmbeddingTask task = {.table = args.table.data,
                                       .ids = args.ids.as<int32_t>(),
                                       .out = args.out.data,
                                       .vocabulary = args.table.shape[0],
                                       .rows = args.ids.elements(),
                                       .units = bytes / unit,
                                       .nan = args.table.dtype == DType::bf16 ? 0x7fc07fc0u : 0x7fc00000u};
  with_unit(unit, [&](auto size) {
    if constexpr (size >= 2)
      launch(kernels::embedding<size>, shape_of(plan_sheet(task.rows, task.units)), task);
  });
}

}  // namespace fsv::cuda
