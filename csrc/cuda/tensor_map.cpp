#include "cuda/tensor_map.h"

#include "cuda/driver.h"
#include "cuda/error.h"

namespace fsv::cuda {
namespace {

CUtensorMapDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::bf16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    default:
      return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  }
}

CUtensorMapSwizzle swizzle_of(ptx::Swizzle swizzle) {
  switch (swizzle) {
    case ptx::SW_128:
      return CU_TENSOR_MAP_SWIZZLE_128B;
    case ptx::SW_64:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case ptx::SW_32:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    default:
      return CU_TENSOR_MAP_SWIZZLE_NONE;
  }
}

template <class To, class From, size_t N>
std::array<To, N> converted(const std::array<From, N>& from) {
  std::array<To, N> to;
  for (size_t i = 0; i < N; i++) to[i] = static_cast<To>(from[i]);
  return to;
}

template <class Map>
CUtensorMap checked(const Map& map, CUtensorMap encoded, CUresult result) {
  if (result == CUDA_SUCCESS) return encoded;
  std::string dims;
  for (int i = 0; i < map.rank; i++) dims += text(i ? ", " : "", map.dims[static_cast<size_t>(i)]);
  throw Error(code::kInternal, text("the driver refuses a tensor map over [", dims, "] ", name_of(map.dtype),
                                    ": CUDA driver error ", static_cast<int>(result)));
}

}  // namespace

CUtensorMap make(const TiledMap& map) {
  static const auto encode =
      driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled", 12000);
  const auto dims = converted<cuuint64_t>(map.dims);
  const auto strides = converted<cuuint64_t>(map.strides);
  const auto steps = converted<cuuint32_t>(map.steps);
  auto box = converted<cuuint32_t>(map.box);
  for (size_t i = 0; i < box.size(); i++) box[i] *= steps[i];  // the driver counts what is passed over, too
  CUtensorMap out;
  const CUresult result =
      encode(&out, type_of(map.dtype), static_cast<cuuint32_t>(map.rank), const_cast<void*>(map.data),
             dims.data(), strides.data(), box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
             swizzle_of(map.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return checked(map, out, result);
}

CUtensorMap make(const Im2colMap& map) {
  static const auto encode =
      driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col", 12000);
  const auto dims = converted<cuuint64_t>(map.dims);
  const auto strides = converted<cuuint64_t>(map.strides);
  const auto window_strides = converted<cuuint32_t>(map.window_strides);
  CUtensorMap out;
  const CUresult result = encode(
      &out, type_of(map.dtype), static_cast<cuuint32_t>(map.rank), const_cast<void*>(map.data), dims.data(),
      strides.data(), map.lower.data(), map.upper.data(), static_cast<cuuint32_t>(map.channels),
      static_cast<cuuint32_t>(map.pixels), window_strides.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
      swizzle_of(map.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return checked(map, out, result);
}

}  // namespace fsv::cuda
