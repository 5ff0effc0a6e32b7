// fp8 e4m3 with a scale for a row or for groups of its channels, to and from f32 and bf16, and the packing of
// a linear layer's weight. A warp takes a row, 128 channels at a time: one group.
#pragma once
#include "core/dtype.h"
#include "cuda/kernels/gemm_epilogue.cuh"

namespace fsv::cuda::kernels {

struct Fp8Args {
  const void* x = nullptr;
  void* out = nullptr;
  float* scales = nullptr;  ///< [rows], or [rows, groups]
  int64_t rows = 0, channels = 0, groups = 0;
  bool f32 = false;  ///< of what is not fp8
};

constexpr int kRowWarps = 8;  ///< rows of a block

/// The warp's row, and each group of four of its channels.
FSV_DEVICE int64_t warp_row() { return int64_t{blockIdx.x} * kRowWarps + threadIdx.x / 32; }

/// Calls body(channel, how many) for this lane's groups of four channels of a row.
template <class Body>
FSV_DEVICE void each_four(int64_t channels, const Body& body) {
  for (int64_t c = ptx::lane_id() * 4; c < channels; c += 128)
    body(c, channels - c < 4 ? static_cast<int>(channels - c) : 4);
}

FSV_DEVICE void store_fp8(uint8_t* to, int count, const Quad& q) {
  const uint32_t word = ptx::pack_e4m3(q.v[0], q.v[1]) | ptx::pack_e4m3(q.v[2], q.v[3]) << 16;
  if (count == 4 && aligned(to, 4)) return ptx::stg(reinterpret_cast<uint32_t*>(to), word);
  FSV_UNROLL for (int i = 0; i < 4; i++) if (i < count) ptx::stg(to + i, static_cast<uint8_t>(word >> 8 * i));
}

FSV_DEVICE Quad load_fp8(const uint8_t* from, int count) {
  uint32_t word = 0;
  if (count == 4 && aligned(from, 4))
    word = ptx::ldg(reinterpret_cast<const uint32_t*>(from));
  else
    FSV_UNROLL for (int i = 0; i < 4; i++) if (i < count) word |= uint32_t{ptx::ldg(from + i)} << 8 * i;
  return {ptx::e4m3_lo(word), ptx::e4m3_hi(word), ptx::e4m3_lo(word >> 16), ptx::e4m3_hi(word >> 16)};
}

FSV_DEVICE float magnitude(const Quad& q) {
  return fmaxf(fmaxf(fabsf(q.v[0]), fabsf(q.v[1])), fmaxf(fabsf(q.v[2]), fabsf(q.v[3])));
}

static_assert(kScaleGroup == 32 * 4, "a warp takes a group at once");

/// Quantises a row group by group, in one pass.
FSV_DEVICE void quantize_groups(const Fp8Args& args, int64_t row) {
  const int64_t at = row * args.channels;
  FSV_ROLLED for (int64_t g = 0; g < args.groups; g++) {  // the whole warp: it meets in shuffles
    const int64_t c = g * kScaleGroup + ptx::lane_id() * 4;
    const int count = args.channels - c >= 4  ? 4
                      : args.channels - c > 0 ? static_cast<int>(args.channels - c)
                                              : 0;
    Quad q = load_quad(args.x, at + c, args.f32, count);
    const float scale = fp8_scale(largest_of_lanes<32>(magnitude(q)));
    if (ptx::lane_id() == 0) ptx::stg(args.scales + row * args.groups + g, scale);
    FSV_UNROLL for (int i = 0; i < 4; i++) q.v[i] /= scale;
    store_fp8(static_cast<uint8_t*>(args.out) + at + c, count, q);
  }
}

/// scale = max |x| / 448 (1 for zeros), out = x / scale. The second pass over a row with one scale finds it
/// in L1.
FSV_KERNEL void FSV_BOUNDS(32 * kRowWarps, 1) quantize_fp8_rows(FSV_GRID_CONSTANT Fp8Args args) {
  const int64_t row = warp_row(), at = row * args.channels;
  if (row >= args.rows) return;
  if (args.groups > 0) return quantize_groups(args, row);
  float largest = 0;
  each_four(args.channels, [&](int64_t c, int count) {
    largest = fmaxf(largest, magnitude(load_quad(args.x, at + c, args.f32, count)));
  });
  const float scale = fp8_scale(largest_of_lanes<32>(largest));
  if (ptx::lane_id() == 0) ptx::stg(args.scales + row, scale);
  each_four(args.channels, [&](int64_t c, int count) {
    Quad q = load_quad(args.x, at + c, args.f32, count);
    FSV_UNROLL for (int i = 0; i < 4; i++) q.v[i] /= scale;
    store_fp8(static_cast<uint8_t*>(args.out) + at + c, count, q);
  });
}

FSV_KERNEL void FSV_BOUNDS(32 * kRowWarps, 1) dequantize_fp8_rows(FSV_GRID_CONSTANT Fp8Args args) {
  const int64_t row = warp_row(), at = row * args.channels;
  if (row >= args.rows) return;
  each_four(args.channels, [&](int64_t c, int count) {
    const float scale = ptx::ldg(args.scales + (args.groups > 0 ? row * args.groups + c / kScaleGroup : row));
    Quad q = load_fp8(static_cast<const uint8_t*>(args.x) + at + c, count);
    FSV_UNROLL for (int i = 0; i < 4; i++) q.v[i] *= scale;
    store_quad(args.out, at + c, args.f32, count, q);
  });
}

struct PackRowsArgs {
  const void* weight = nullptr;
  const float* scales = nullptr;  ///< [rows] of an fp8 weight, which becomes bf16
  void* out = nullptr;            ///< rows of `stride` elements, zeros behind the channels
  int64_t rows = 0, channels = 0, stride = 0;
  bool f32 = false;
};

FSV_KERNEL void FSV_BOUNDS(32 * kRowWarps, 1) pack_rows(FSV_GRID_CONSTANT PackRowsArgs args) {
  const int64_t row = warp_row(), from = row * args.channels;
  if (row >= args.rows) return;
  const float scale = args.scales ? ptx::ldg(args.scales + row) : 1.0f;
  each_four(args.stride, [&](int64_t c, int) {
    const int count = args.channels - c < 0   ? 0
                      : args.channels - c < 4 ? static_cast<int>(args.channels - c)
                                              : 4;
    Quad q = args.scales ? load_fp8(static_cast<const uint8_t*>(args.weight) + from + c, count)
                         : load_quad(args.weight, from + c, args.f32, count);
    FSV_UNROLL for (int i = 0; i < 4; i++) q.v[i] *= scale;
    store_quad(args.out, row * args.stride + c, args.f32, 4, q);
  });
}

}  // namespace fsv::cuda::kernels
