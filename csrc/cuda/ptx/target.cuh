// The words with which one source is a kernel for nvcc and a plain function for a host compiler.
#pragma once

#if defined(__CUDACC__)
#define FSV_KERNEL __global__
#define FSV_DEVICE __device__ __forceinline__
#define FSV_HOST_DEVICE __host__ __device__ __forceinline__
#define FSV_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define FSV_GRID_CONSTANT const __grid_constant__
#define FSV_UNROLL _Pragma("unroll")
#define FSV_ROLLED _Pragma("unroll 1")
#else
#define FSV_KERNEL inline
#define FSV_DEVICE inline
#define FSV_HOST_DEVICE inline
#define FSV_BOUNDS(threads, blocks)
#define FSV_GRID_CONSTANT const
#define FSV_UNROLL
#define FSV_ROLLED
#endif

// Bodies of kernels that need wgmma or setmaxnreg stand under `#if FSV_SM90A`, so that one .cu builds for
// several architectures: such an instruction exists on sm_90a alone, and ptxas refuses it elsewhere.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FSV_SM90A 1
#else
#define FSV_SM90A 0
#endif
