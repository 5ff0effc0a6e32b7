// The only header that kernels include. Kernels call fsv::ptx:: functions and never write asm. Under nvcc these are
// one-instruction inline PTX (device.cuh); under a host compiler they are the functional models of test/simulator.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
  #include <cuda.h>
  #include <cuda_bf16.h>
  #define FSV_KERNEL __global__
  #define FSV_DEVICE __device__ __forceinline__
  #define FSV_HOST_DEVICE __host__ __device__ __forceinline__
  #define FSV_BOUNDS(t, b) __launch_bounds__(t, b)
  #define FSV_GRID_CONSTANT const __grid_constant__
  #define FSV_UNROLL _Pragma("unroll")
#else
  #define FSV_KERNEL
  #define FSV_DEVICE inline
  #define FSV_HOST_DEVICE inline
  #define FSV_BOUNDS(t, b)
  #define FSV_GRID_CONSTANT const
  #define FSV_UNROLL
#endif

namespace fsv::ptx {
// ---- shared by both back ends: pure integer facts about layouts -------------
enum Swizzle : int { SW_NONE = 0, SW_128 = 1, SW_64 = 2, SW_32 = 3 };   // = descriptor encoding
enum Major : int { K_MAJOR = 0, MN_MAJOR = 1 };

// XOR pattern used by TMA, wgmma and by our own stmatrix addressing; acts on the
// absolute shared-memory byte address.
FSV_HOST_DEVICE constexpr uint32_t swizzle(Swizzle s, uint32_t a) {
  return s == SW_128 ? a ^ ((a >> 3) & 0x70)
       : s == SW_64  ? a ^ ((a >> 3) & 0x30)
       : s == SW_32  ? a ^ ((a >> 3) & 0x10) : a;
}
FSV_HOST_DEVICE constexpr uint64_t gmma_desc(uint32_t saddr, uint32_t lbo_bytes, uint32_t sbo_bytes, Swizzle s) {
  return uint64_t((saddr & 0x3FFFF) >> 4) | uint64_t((lbo_bytes & 0x3FFFF) >> 4) << 16 |
         uint64_t((sbo_bytes & 0x3FFFF) >> 4) << 32 | uint64_t(s) << 62;
}
FSV_HOST_DEVICE constexpr uint32_t align_up(uint32_t x, uint32_t a) { return (x + a - 1) & ~(a - 1); }
}  // namespace fsv::ptx

#if defined(__CUDACC__)
  #include "device.cuh"
#else
  #include "simulator/device.h"
#endif
