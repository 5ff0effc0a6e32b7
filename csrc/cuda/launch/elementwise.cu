// Ops on elements, 8-bit pictures, random numbers and the finite check.
#include "cuda/backend.h"
#include "cuda/kernels/elementwise.cuh"
#include "cuda/kernels/random.cuh"
#include "cuda/launch/rows_launch.h"

namespace fsv::cuda {
namespace {

using kernels::kPack;

/// kernel(MapTask, ...) from elements of X to as many of Y.
template <class X, class Y, class... More>
void launch_map(cudaStream_t stream, void (*kernel)(kernels::MapTask, More...), const TensorView& x,
                const TensorView& out, More... more) {
  const PackPlan plan = plan_packs(x.elements(), kPack<X, Y>, all_aligned({x.data, out.data}));
  launch(stream, kernel, shape_of(plan.shape), kernels::MapTask{x.data, out.data, plan.packs, plan.elements},
         more...);
}

constexpr int64_t kVerdicts = 1024;

}  // namespace

void CudaBackend::combine(const CombineArgs& args) {
  bool aligned = is_aligned(args.out.data);
  kernels::CombineTask task = {};
  for (int i = 0; i < args.count; i++) {
    task.terms[i] = args.terms[i].data;
    task.bf16[i] = args.terms[i].dtype == DType::bf16;
    task.coefficients[i] = args.coefficients[i];
    aligned = aligned && is_aligned(args.terms[i].data);
  }
  const PackPlan plan = plan_packs(args.out.elements(), kernels::kCombinePack, aligned);
  task.factors = args.factors.as<float>();
  task.count = args.count;
  task.out = args.out.data;
  task.packs = plan.packs, task.elements = plan.elements;
  with_float(args.out.dtype,
             [&](auto y) { launch(kernels::combine<decltype(y)>, shape_of(plan.shape), task); });
}

void CudaBackend::cast(const CastArgs& args) {
  const DType from = args.x.dtype, to = args.out.dtype;
  const auto run = [&]<class X, class Y>() {
    launch_map<X, Y>(stream(), kernels::cast<X, Y>, args.x, args.out);
  };
  using kernels::Int32;
  if (from == to) return copy(args.out.data, args.x.data, static_cast<size_t>(args.x.bytes()));
  if (from == DType::i32) return run.operator()<Int32, float>();
  if (to == DType::i32) return run.operator()<float, Int32>();
  if (from == DType::f32 && to == DType::bf16) return run.operator()<float, Bf16>();
  if (from == DType::f32) return run.operator()<float, F8e4m3>();
  if (from == DType::bf16 && to == DType::f32) return run.operator()<Bf16, float>();
  if (from == DType::bf16) return run.operator()<Bf16, F8e4m3>();
  if (to == DType::f32) return run.operator()<F8e4m3, float>();
  run.operator()<F8e4m3, Bf16>();
}

void CudaBackend::activate(const ActivateArgs& args) {
  with_float(args.x.dtype, [&](auto x) {
    using T = decltype(x);
    launch_map<T, T>(stream(), kernels::activate_elements<T>, args.x, args.out, args.activation);
  });
}

void CudaBackend::from_rgb8(const FromRgb8Args& args) {
  with_float(args.out.dtype, [&](auto y) {
    launch_map<uint8_t, decltype(y)>(stream(), kernels::from_rgb8<decltype(y)>, args.x, args.out);
  });
}

void CudaBackend::to_rgb8(const ToRgb8Args& args) {
  with_float(args.x.dtype, [&](auto x) {
    launch_map<decltype(x), uint8_t>(stream(), kernels::to_rgb8<decltype(x)>, args.x, args.out);
  });
}

void CudaBackend::glu(const GluArgs& args) {
  if (args.out.elements() == 0) return;
  const kernels::GluTask task = {.x = args.x.data,
                                 .out = args.out.data,
                                 .rows = args.x.shape.elements(0, args.x.shape.rank - 1),
                                 .channels = args.out.shape[-1]};
  with_float(args.x.dtype, [&](auto x) {
    using T = decltype(x);
    with_pack<kPack<T>>(all_aligned({task.x, task.out}) && task.channels % kPack<T> == 0, [&](auto n) {
      launch(kernels::glu<T, n>, shape_of(plan_sheet(task.rows, task.channels / n)), task);
    });
  });
}

void CudaBackend::modulation(const ModulationArgs& args) {
  if (args.out.elements() == 0) return;
  const kernels::ModulationTask task = {.table = args.table.as<float>(),
                                        .embedding = args.embedding.as<float>(),
                                        .out = args.out.as<float>(),
                                        .vectors = args.out.shape[0],
                                        .samples = args.out.shape[1],
                                        .channels = args.out.shape[2]};
  launch(kernels::modulation, shape_of(plan_sheet(task.vectors * task.samples, task.channels)), task);
}

void CudaBackend::fill(const FillArgs& args) {
  const auto word_of = [&]() -> uint32_t {
    switch (args.out.dtype) {
      case DType::f32:
        return std::bit_cast<uint32_t>(args.value);
      case DType::bf16:
        return to_bf16(args.value).bits * 0x10001u;
      case DType::f8e4m3:
        return to_f8e4m3(args.value).bits * 0x1010101u;
      case DType::i32:
        return static_cast<uint32_t>(static_cast<int32_t>(args.value));
      case DType::u8:
        return static_cast<uint8_t>(args.value) * 0x1010101u;
    }
    return 0;
  };
  const PackPlan plan = plan_packs(args.out.bytes(), 16, is_aligned(args.out.data));
  launch(kernels::fill, shape_of(plan.shape), args.out.as<uint8_t>(), word_of(), plan.packs, plan.elements);
}

void CudaBackend::randn(const RandnArgs& args) {
  const int64_t elements = args.shape.elements(1, args.shape.rank);
  kernels::RandnTask task = {};
  std::copy_n(args.seeds, args.shape[0], task.seeds);
  task.stream = args.stream;
  task.first = args.offset / 4;
  task.elements = elements;
  task.out = args.out.data;
  task.vector = is_aligned(args.out.data) && (elements % 4 == 0 || args.shape[0] == 1);
  LaunchShape shape = shape_of(plan_packs(elements, 4, true).shape);
  shape.grid.y = static_cast<unsigned>(args.shape[0]);
  if (elements == 0) return;
  with_float(args.out.dtype, [&](auto y) { launch(kernels::randn<decltype(y)>, shape, task); });
}

size_t CudaBackend::workspace_bytes(const AllFiniteArgs&) const { return kVerdicts * sizeof(int32_t); }

void CudaBackend::all_finite(const AllFiniteArgs& args) {
  with_float(args.x.dtype, [&](auto x) {
    using T = decltype(x);
    PackPlan plan = plan_packs(args.x.elements(), kPack<T>, is_aligned(args.x.data), kVerdicts);
    plan.shape.smem = kFiniteShared;
    launch(kernels::find_infinite<T>, shape_of(plan.shape), args.x.as<T>(), workspace<int32_t>(), plan.packs,
           plan.elements);
    launch(kernels::all_finite, {.grid = 1, .block = 32}, workspace<int32_t>(),
           static_cast<int>(plan.shape.grid.x), args.out.as<int32_t>());
  });
}

}  // namespace fsv::cuda
