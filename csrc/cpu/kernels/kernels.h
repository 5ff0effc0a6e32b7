// The door between the scheduling of an op (cpu/<op>.cpp, compiled once for the baseline) and its inner loops
// (cpu/kernels/<family>.cpp, compiled once for each instruction set). Only plain pointers and numbers cross
// it, and headers that kernel files include have nothing but `static inline` functions: an inline function of
// external linkage could be compiled with AVX-512 in one file and be picked by the linker for all.
#pragma once

#include "cpu/kernels/attention.h"
#include "cpu/kernels/conv.h"
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/rows.h"

namespace fsv::cpu {

struct Kernels {
  const char* isa;
  const GemmKernels* gemm;
  const AttentionKernels* attention;
  const ConvKernels* conv;
  const RowKernels* rows;
};

}  // namespace fsv::cpu
