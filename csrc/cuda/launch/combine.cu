#include "cuda/backend.h"
#include "cuda/kernels/combine.cuh"

namespace fsv::cuda {

void CudaBackend::combine(const CombineArgs& args) {
  kernels::CombineParams p = {};
  for (int i = 0; i < args.count; i++) {
    p.terms[i] = args.terms[i].data;
    p.is_bf16[i] = args.terms[i].dtype == DType::bf16;
    p.coefficients[i] = args.coefficients[i];
  }
  p.factors = args.factors.as<float>();
  p.count = args.count;
  p.out = args.out.data;
  p.out_is_bf16 = args.out.dtype == DType::bf16;
  p.aligned = is_aligned(p.out);
  for (int i = 0; i < args.count; i++) p.aligned = p.aligned && is_aligned(p.terms[i]);
  p.elements = args.out.elements();
  launch(kernels::combine,
         {.grid = blocks(p.elements, kernels::kCombineThreads * kernels::kCombineRun),
          .block = kernels::kCombineThreads},
         p);
}

}  // namespace fsv::cuda
