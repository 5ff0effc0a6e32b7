// The few calls of the driver that csrc/cuda looks up by name.
#include <atomic>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>

#include "cuda/ptx/layout.cuh"
#include "simulator/runtime/cards.h"

using namespace sim::host;

namespace {

/// Does as the driver does with a tensor map that breaks its rules.
template <class Encode>
CUresult encoded(CUtensorMap* map, CUtensorMapDataType type, CUtensorMapSwizzle swizzle, Encode encode) {
  const int size = type == CU_TENSOR_MAP_DATA_TYPE_UINT8     ? 1
                   : type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4
                                                             : 2;
  constexpr int kSwizzles[] = {fsv::ptx::SW_NONE, fsv::ptx::SW_32, fsv::ptx::SW_64, fsv::ptx::SW_128};
  try {
    *map = encode(size, kSwizzles[swizzle]);
    return CUDA_SUCCESS;
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "simulator: %s\n", error.what());
    return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return encoded(map, type, swizzle, [&](int size, int mode) {
    return sim::encode_tiled(base, size, {dims, dims + rank}, {strides, strides + rank - 1},
                             {box, box + rank}, mode, {element_strides, element_strides + rank});
  });
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                                 const cuuint64_t* dims, const cuuint64_t* strides, const int* lower_corner,
                                 const int* upper_corner, cuuint32_t channels, cuuint32_t pixels,
                                 const cuuint32_t* element_strides, CUtensorMapInterleave,
                                 CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                 CUtensorMapFloatOOBfill) {
  return encoded(map, type, swizzle, [&](int size, int mode) {
    const cuuint32_t spatial = rank - 2;
    return sim::encode_im2col(base, size, {dims, dims + rank}, {strides, strides + rank - 1},
                              {lower_corner, lower_corner + spatial}, {upper_corner, upper_corner + spatial},
                              static_cast<int>(channels), static_cast<int>(pixels), mode,
                              {element_strides, element_strides + rank});
  });
}

CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned) {
  const cudaError_t error = runtime().push(stream, {.run = [=] {
                                             reinterpret_cast<std::atomic<uint32_t>*>(address)->store(value);
                                             return cudaSuccess;
                                           }});
  return error == cudaSuccess ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult* result) {
  static const std::map<std::string, void*> symbols = {
      {"cuTensorMapEncodeTiled", reinterpret_cast<void*>(&cuTensorMapEncodeTiled)},
      {"cuTensorMapEncodeIm2col", reinterpret_cast<void*>(&cuTensorMapEncodeIm2col)},
      {"cuStreamWriteValue32", reinterpret_cast<void*>(&cuStreamWriteValue32)},
  };
  const auto found = symbols.find(symbol);
  *function = found == symbols.end() ? nullptr : found->second;
  if (result) *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return sim::faults().no_driver ? fail(cudaErrorInsufficientDriver) : cudaSuccess;
}
