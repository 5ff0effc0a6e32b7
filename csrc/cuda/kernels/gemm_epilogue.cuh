// What every GEMM does to a finished sum: y = residual + gate * act(sum * scales + bias), in f32, rounded
// once. Which parts there are is data, not type: the branches are the same for a whole grid, and one kernel
// serves all of them.
//
// Two ways out. Hopper's kernel finishes its accumulators in registers and stores them by TMA
// (gemm_sm90.cuh). Everything else (results of f32, rows that TMA cannot address, the other kernels) goes
// through finish_chunk: a warp puts 32 columns of its sums into shared memory and finishes them four
// neighbours at a time.
#pragma once
#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/scale.cuh"

namespace fsv::cuda::kernels {

/// Pointers that are null stand for "not there". Of the result [m, n]: element (row, col) is at row * n +
/// col.
struct GemmEpilogue {
  const float* bias = nullptr;       ///< [n]
  const float* row_scale = nullptr;  ///< [m], of an fp8 x
  const float* col_scale = nullptr;  ///< [n], of an fp8 weight
  const void* gate = nullptr;        ///< f32 [m / gate_rows, n], or like the result where gate_rows is 0
  const void* residual = nullptr;    ///< as the result
  void* out = nullptr;
  float* out_scales = nullptr;  ///< [m, ceil(n / 128)], where the result is fp8
  int64_t m = 0, n = 0;
  int64_t gate_rows = 0;
  Activation activation = Activation::none;
  bool out_f32 = false;

  FSV_DEVICE bool gate_f32() const { return gate_rows > 0 || out_f32; }
  /// Where the gate of a row begins.
  FSV_DEVICE int64_t gate_at(int64_t row) const { return (gate_rows > 0 ? row / gate_rows : row) * n; }
};

struct alignas(16) Quad {
  float v[4];
};

/// Whether `bytes` at once may be moved at this address. Tensors begin anywhere: some are views into others.
FSV_DEVICE bool aligned(const void* address, int bytes) {
  return reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

/// The first `count` of four neighbours of f32 or bf16 memory from element `at` on, the others 0.
FSV_DEVICE Quad load_quad(const void* from, int64_t at, bool f32, int count) {
  Quad q = {};
  if (f32) {
    const float* floats = static_cast<const float*>(from) + at;
    if (count == 4 && aligned(floats, 16)) return ptx::ldg(reinterpret_cast<const Quad*>(floats));
    FSV_UNROLL for (int i = 0; i < 4; i++) if (i < count) q.v[i] = ptx::ldg(floats + i);
    return q;
  }
  const uint16_t* halves = static_cast<const uint16_t*>(from) + at;
  if (count == 4 && aligned(halves, 8)) {
    const uint2 words = ptx::ldg(reinterpret_cast<const uint2*>(halves));
    return {ptx::bf16_lo(words.x), ptx::bf16_hi(words.x), ptx::bf16_lo(words.y), ptx::bf16_hi(words.y)};
  }
  FSV_UNROLL for (int i = 0; i < 4; i++) if (i < count) q.v[i] = ptx::bf16_lo(ptx::ldg(halves + i));
  return q;
}

FSV_DEVICE void store_quad(void* to, int64_t at, bool f32, int count, const Quad& q) {
  if (f32) {
    float* floats = static_cast<float*>(to) + at;
    if (count == 4 && aligned(floats, 16)) return ptx::stg(reinterpret_cast<Quad*>(floats), q);
    FSV_UNROLL for (int i = 0; i < 4; i++) if (i < count) ptx::stg(floats + i, q.v[i]);
    return;
  }
  uint16_t* halves = static_cast<uint16_t*>(to) + at;
  const uint2 words = {ptx::pack_bf16(q.v[0], q.v[1]), ptx::pack_bf16(q.v[2], q.v[3])};
  if (count == 4 && aligned(halves, 8)) return ptx::stg(reinterpret_cast<uint2*>(halves), words);
  FSV_UNROLL for (int i = 0; i < 4; i++) {
    const uint32_t word = i < 2 ? words.x : words.y;
    if (i < count) ptx::stg(halves + i, static_cast<uint16_t>(word >> 16 * (i % 2)));
  }
}

/// Finishes and stores the sums of (row, col .. col + 3), as far as these exist. All of it by fmaf, as in
/// gemm_sm90.cuh's finish_sums: left to the compiler, the two would round differently.
FSV_DEVICE void finish_quad(const GemmEpilogue& e, int64_t row, int64_t col, Quad q) {
  if (row >= e.m || col >= e.n) return;
  const int count = e.n - col < 4 ? static_cast<int>(e.n - col) : 4;
  const int64_t at = row * e.n + col;
  Quad scale = {1, 1, 1, 1}, bias = {}, gate = {1, 1, 1, 1}, residual = {};
  if (e.col_scale) scale = load_quad(e.col_scale, col, true, count);
  if (e.bias) bias = load_quad(e.bias, col, true, count);
  if (e.gate) gate = load_quad(e.gate, e.gate_at(row) + col, e.gate_f32(), count);
  if (e.residual) residual = load_quad(e.residual, at, e.out_f32, count);
  const float row_scale = e.row_scale ? ptx::ldg(e.row_scale + row) : 1.0f;
  FSV_UNROLL for (int i = 0; i < 4; i++) q.v[i] = fmaf(q.v[i], row_scale * scale.v[i], bias.v[i]);
  activate(e.activation, q.v);
  FSV_UNROLL for (int i = 0; i < 4; i++) q.v[i] = fmaf(q.v[i], gate.v[i], residual.v[i]);
  store_quad(e.out, at, e.out_f32, count, q);
}

/// Bytes that a warp needs for `rows` rows of a chunk.
constexpr int kChunkCols = 32, kChunkRowBytes = kChunkCols * 4;

/// Where (row, col) of a chunk lies. The rows that one store of fragments touches fall on different banks.
FSV_DEVICE uint32_t chunk_at(uint32_t chunk, int row, int col) {
  return chunk + row * kChunkRowBytes + (col ^ (row & 3) * 8) * 4;
}

/// A fragment of 16 x 8 sums, laid out as mma.sync and wgmma give them to the lanes of a warp, into a chunk.
FSV_DEVICE void put_fragment(uint32_t chunk, int row, int col, const float* sums) {
  const int lane = ptx::lane_id();
  ptx::sts(chunk_at(chunk, row + lane / 4, col + lane % 4 * 2), float2{sums[0], sums[1]});
  ptx::sts(chunk_at(chunk, row + lane / 4 + 8, col + lane % 4 * 2), float2{sums[2], sums[3]});
}

/// A warp finishes the `rows` x 32 sums that it has put into its chunk, (row, col) the first of them in the
/// result.
FSV_DEVICE void finish_chunk(const GemmEpilogue& e, uint32_t chunk, int rows, int64_t row, int64_t col) {
  const int lane = ptx::lane_id();
  ptx::syncwarp();
  FSV_ROLLED for (int r = lane / 8; r < rows; r += 4)
      finish_quad(e, row + r, col + lane % 8 * 4, ptx::lds<Quad>(chunk_at(chunk, r, lane % 8 * 4)));
  ptx::syncwarp();
}

}  // namespace fsv::cuda::kernels
