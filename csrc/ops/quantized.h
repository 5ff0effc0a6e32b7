// Results of fp8. Where a backend has no kernel that quantises what it computes, the op runs with an ordinary
// result in scratch memory, and quantize_fp8 follows.
#pragma once

#include "ops/ops.h"

namespace fsv {

/// What is to be quantised: f32, or where an op does not give that, the type of its operands.
inline DType unquantized_dtype(const LinearArgs&) { return DType::f32; }
inline DType unquantized_dtype(const NormModulateArgs&) { return DType::f32; }
inline DType unquantized_dtype(const LayerMemoryArgs& args) { return args.states[0].dtype; }

/// The op with an ordinary result at `data`.
template <class Args>
Args unquantized(Args args, void* data) {
  args.dtype = unquantized_dtype(args);
  args.out = TensorView({args.dtype, args.out.shape, Layout::plain}, data);
  args.out_scales = {};
  return args;
}

/// Bytes of that result, in steps at which other scratch memory may begin.
template <class Args>
size_t unquantized_bytes(const Args& args) {
  const size_t bytes = static_cast<size_t>(args.out.elements()) * size_of(unquantized_dtype(args));
  return (bytes + 511) / 512 * 512;
}

}  // namespace fsv
