// The only header that kernels include. Kernels call fsv::ptx:: functions and never write asm. Under nvcc
// each is one PTX instruction; under a host compiler the same name is a functional model in test/simulator,
// where the same kernel runs without a GPU. A test of a kernel there says nothing about the wrappers here, so
// each is as small as can be, and csrc/cuda/probe compares both on a device.
#pragma once

#include "cuda/ptx/layout.cuh"
#include "cuda/ptx/target.cuh"

#if defined(__CUDACC__)
#include "cuda/ptx/barrier.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/copy.cuh"
#include "cuda/ptx/math.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/memory.cuh"
#include "cuda/ptx/mma.cuh"
#include "cuda/ptx/tma.cuh"
#include "cuda/ptx/warp.cuh"
#include "cuda/ptx/wgmma.cuh"
#else
#include "simulator/device.h"
#endif
