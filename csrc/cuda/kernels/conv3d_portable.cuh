// conv3d on any card from sm_80 on, for any shape: an implicit matrix product whose A operand threads gather
// from the picture. Its rows are output pixels in the order of memory, its columns the output channels of one
// group; 64 bytes of the sum over k (conv_layout.h) are a step. Tensor cores for bf16; f32, the mode that is
// compared with the oracle, in fused multiply-adds. Hopper runs here what its own kernel cannot take:
// pictures of three channels, for one.
#pragma once

#include "cuda/kernels/activation.cuh"
#include "cuda/kernels/conv.h"

namespace fsv::cuda::kernels {

struct ConvGatherTask {
  Conv conv;
  int slice = 1, slices = 1, chunk = 1;  ///< of ConvLayout
  int k = 0;
  const void *x = nullptr, *before = nullptr, *weight = nullptr;
  bool whole_pieces = false;  ///< 16 bytes of k are of one tap and aligned in x
  ConvEpilogue epilogue;
};

inline constexpr int kStepBytes = 64, kPieceBytes = 16, kPiecesOfStep = kStepBytes / kPieceBytes;

/// Products of bf16 by mma.sync: eight warps, kWarpsM of them below each other.
template <int kN_, int kWarpsM>
struct ConvMmaTile {
  using Element = uint16_t;
  static constexpr int kM = 128, kN = kN_, kThreads = 256, kStages = 3;
  static constexpr int kWarpM = kM / kWarpsM, kWarpN = kN * kWarpsM / 8;
  float sums[kWarpM / 16][kWarpN / 8][4] = {};

  FSV_DEVICE void multiply(uint32_t a, uint32_t b) {
    const int warp = threadIdx.x / 32, lane = ptx::lane_id();
    a += (warp % kWarpsM * kWarpM + lane % 16) * kStepBytes + lane / 16 * kPieceBytes;
    b += (warp / kWarpsM * kWarpN + lane / 16 * 8 + lane % 8) * kStepBytes + lane / 8 % 2 * kPieceBytes;
    FSV_UNROLL for (int k = 0; k < kStepBytes; k += 2 * kPieceBytes) {
      uint32_t rows[kWarpM / 16][4], cols[kWarpN / 16][4];
      FSV_UNROLL for (int i = 0; i < kWarpM / 16; i++)
          ptx::ldmatrix_x4(rows[i], ptx::swizzle(ptx::SW_64, a + i * 16 * kStepBytes + k));
      FSV_UNROLL for (int j = 0; j < kWarpN / 16; j++)
          ptx::ldmatrix_x4(cols[j], ptx::swizzle(ptx::SW_64, b + j * 16 * kStepBytes + k));
      FSV_UNROLL for (int i = 0; i < kWarpM / 16; i++) FSV_UNROLL for (int j = 0; j < kWarpN / 8; j++) {
        const uint32_t pair[2] = {cols[j / 2][j % 2 * 2], cols[j / 2][j % 2 * 2 + 1]};
        ptx::mma_m16n8k16_bf16(sums[i][j], rows[i], pair);
      }
    }
  }

  /// use(row, col, values) for the neighbours in a row that this thread has sums of, row by row.
  template <class Use>
  FSV_DEVICE void each(const Use& use) {
    const int warp = threadIdx.x / 32, lane = ptx::lane_id();
    const int row = warp % kWarpsM * kWarpM + lane / 4, col = warp / kWarpsM * kWarpN + lane % 4 * 2;
    FSV_UNROLL for (int i = 0; i < kWarpM / 16; i++) FSV_UNROLL for (int r = 0; r < 2; r++)
        FSV_UNROLL for (int j = 0; j < kWarpN / 8; j++) {
      float v[2] = {sums[i][j][2 * r], sums[i][j][2 * r + 1]};
      use(row + i * 16 + r * 8, col + j * 8, v);
    }
  }
};

/// Products of f32: a thread has every 16th of 64 rows and columns.
struct ConvFmaTile {
  using Element = float;
  static constexpr int kM = 64, kN = 64, kThreads = 256, kStages = 3;
  float sums[4][4] = {};

  struct alignas(16) Four {
    float v[4];
  };

  FSV_DEVICE void multiply(uint32_t a, uint32_t b) {
    a += threadIdx.x / 16 * kStepBytes;
    b += threadIdx.x % 16 * kStepBytes;
    FSV_UNROLL for (int k = 0; k < kStepBytes; k += kPieceBytes) {
      Four rows[4], cols[4];
      FSV_UNROLL for (int i = 0; i < 4; i++) {
        rows[i] = ptx::lds<Four>(ptx::swizzle(ptx::SW_64, a + i * 16 * kStepBytes + k));
        cols[i] = ptx::lds<Four>(ptx::swizzle(ptx::SW_64, b + i * 16 * kStepBytes + k));
      }
      FSV_UNROLL for (int e = 0; e < 4; e++) FSV_UNROLL for (int i = 0; i < 4; i++)
          FSV_UNROLL for (int j = 0; j < 4; j++) sums[i][j] = fmaf(rows[i].v[e], cols[j].v[e], sums[i][j]);
    }
  }

  template <class Use>
  FSV_DEVICE void each(const Use& use) {
    FSV_UNROLL for (int i = 0; i < 4; i++) FSV_UNROLL for (int j = 0; j < 4; j++) {
      float v[1] = {sums[i][j]};
      use(static_cast<int>(threadIdx.x / 16 + 16 * i), static_cast<int>(threadIdx.x % 16 + 16 * j), v);
    }
  }
};

namespace conv3d_portable_detail {

FSV_DEVICE float load_element(const float* p) { return ptx::ldg(p); }
FSV_DEVICE float load_element(const uint16_t* p) { return ptx::bf16_lo(ptx::ldg(p)); }
FSV_DEVICE void store_element(float* p, float v) { ptx::stg(p, v); }
FSV_DEVICE void store_element(uint16_t* p, float v) {
  ptx::stg(p, static_cast<uint16_t>(ptx::pack_bf16(v, 0)));
}

/// Where element k of the sum is read: its tap, and its channel in the group. Beyond the last one t is not a
/// tap.
struct TapAt {
  int t, h, w, channel;

  FSV_DEVICE TapAt(const ConvGatherTask& task, int k) {
    int row = k / task.slice;
    channel = k % task.slice;
    h = row % task.conv.kh;
    row /= task.conv.kh;
    channel += row % task.slices * task.slice;
    row /= task.slices;
    w = row % task.conv.kw;
    t = row / task.conv.kw;
  }
  FSV_DEVICE bool exists(const Conv& c) const { return t < c.kt && channel < c.in; }
};

/// An output pixel, and the corner of its window in the picture.
struct PixelAt {
  int sample = -1, t = 0, h = 0, w = 0;

  PixelAt() = default;
  FSV_DEVICE PixelAt(const Conv& c, int64_t pixel) {
    if (pixel >= c.out_pixels()) return;
    w = static_cast<int>(pixel % c.out_width) * c.stride_w - c.pad_w;
    pixel /= c.out_width;
    h = static_cast<int>(pixel % c.out_height) * c.stride_h - c.pad_h;
    pixel /= c.out_height;
    t = static_cast<int>(pixel % c.out_frames);
    sample = static_cast<int>(pixel / c.out_frames);
  }
};

/// The element of x, or of before, that `pixel` meets at `tap`; null for zero.
template <class T>
FSV_DEVICE const T* input_at(const ConvGatherTask& task, const PixelAt& pixel, const TapAt& tap, int group) {
  const Conv& c = task.conv;
  const int h = pixel.h + tap.h, w = pixel.w + tap.w;
  if (pixel.sample < 0 || !tap.exists(c) || h < 0 || h >= c.height || w < 0 || w >= c.width) return nullptr;
  const int frame = c.source(pixel.t, tap.t);
  if (frame < 0) return nullptr;
  const bool carried = frame < c.before;
  const T* from = static_cast<const T*>(carried ? task.before : task.x);
  const int64_t of_clip = carried ? int64_t{pixel.sample} * c.before + frame
                                  : int64_t{pixel.sample} * c.frames + frame - c.before;
  return from + ((of_clip * c.height + h) * c.width + w) * c.channels + int64_t{group} * c.in + tap.channel;
}

/// What a thread brings into shared memory each step: one piece of some rows of A and of B.
template <class Tile>
struct Gather {
  using T = typename Tile::Element;
  static constexpr int kElements = kPieceBytes / sizeof(T), kRowsAtOnce = Tile::kThreads / kPiecesOfStep;
  static constexpr int kRows = Tile::kM / kRowsAtOnce;
  static constexpr uint32_t kBytes = (Tile::kM + Tile::kN) * kStepBytes;  ///< of a stage

  const ConvGatherTask& task;
  int group, first_n, piece, row;
  PixelAt pixels[kRows];

  FSV_DEVICE Gather(const ConvGatherTask& t, int64_t first_pixel, int g, int n)
      : task(t), group(g), first_n(n), piece(threadIdx.x % kPiecesOfStep), row(threadIdx.x / kPiecesOfStep) {
    FSV_UNROLL for (int i = 0; i < kRows; i++) pixels[i] =
        PixelAt(task.conv, first_pixel + row + i * kRowsAtOnce);
  }

  FSV_DEVICE void load(int step, uint32_t stage) const {
    const int k = (step * kPiecesOfStep + piece) * kElements;
    if (task.whole_pieces) {
      const TapAt tap(task, k);
      FSV_UNROLL for (int i = 0; i < kRows; i++) {
        const T* from = input_at<T>(task, pixels[i], tap, group);
        ptx::cp_async16(place(stage, row + i * kRowsAtOnce), from ? from : task.weight, from != nullptr);
      }
    } else {
      for (int e = 0; e < kElements; e++) {
        const TapAt tap(task, k + e);
        FSV_UNROLL for (int i = 0; i < kRows; i++) {
          const T* from = input_at<T>(task, pixels[i], tap, group);
          const uint32_t to = place(stage, row + i * kRowsAtOnce) + e * static_cast<uint32_t>(sizeof(T));
          ptx::sts(to, from ? ptx::ldg(from) : T{});
        }
      }
    }
    const T* weight = static_cast<const T*>(task.weight);
    for (int r = row; r < Tile::kN; r += kRowsAtOnce) {
      const int n = first_n + r;
      const bool inside = n < task.conv.out && k < task.k;
      const int64_t chunk = int64_t{group} * (task.k / task.chunk) + k / task.chunk;
      const T* from = inside ? weight + (chunk * task.conv.out + n) * task.chunk + k % task.chunk : weight;
      ptx::cp_async16(place(stage + Tile::kM * kStepBytes, r), from, inside);
    }
  }

 private:
  FSV_DEVICE uint32_t place(uint32_t stage, int r) const {
    return ptx::swizzle(ptx::SW_64, stage + r * kStepBytes + piece * kPieceBytes);
  }
};

}  // namespace conv3d_portable_detail

inline ConvGatherTask gather_task(const Conv& c, const ConvLayout& l, int element_bytes, const void* x,
                                  const void* before, const void* weight, const ConvEpilogue& epilogue) {
  ConvGatherTask task;
  task.conv = c;
  task.slice = static_cast<int>(l.slice), task.slices = static_cast<int>(l.slices);
  task.chunk = static_cast<int>(l.chunk);
  task.k = static_cast<int>(l.k);
  task.x = x, task.before = before, task.weight = weight;
  const auto whole = [](auto value) { return static_cast<int64_t>(value) % kPieceBytes == 0; };
  task.whole_pieces = whole(c.in * element_bytes) && whole(c.channels * element_bytes) &&
                      whole(reinterpret_cast<uintptr_t>(x)) && whole(reinterpret_cast<uintptr_t>(before));
  task.epilogue = epilogue;
  return task;
}

template <class Tile>
int64_t conv_gather_blocks(const Conv& c) {
  return (c.out_pixels() + Tile::kM - 1) / Tile::kM * c.groups * ((c.out + Tile::kN - 1) / Tile::kN);
}

template <class Tile>
inline constexpr int kConvGatherShared = 512 + Tile::kStages * (Tile::kM + Tile::kN) * kStepBytes;

/// A block a tile: pixel tiles, and in each the column tiles of all groups.
template <class Tile>
FSV_KERNEL void FSV_BOUNDS(Tile::kThreads, 2) conv3d_portable(FSV_GRID_CONSTANT ConvGatherTask task) {
  using namespace conv3d_portable_detail;
  using T = typename Tile::Element;
  const Conv& c = task.conv;
  const ConvEpilogue& e = task.epilogue;
  const int of_group = (c.out + Tile::kN - 1) / Tile::kN, tiles_n = of_group * c.groups;
  const int group = blockIdx.x % tiles_n / of_group, first_n = blockIdx.x % tiles_n % of_group * Tile::kN;
  const int64_t first_pixel = int64_t{blockIdx.x / tiles_n} * Tile::kM;
  constexpr int kStep = Gather<Tile>::kElements * kPiecesOfStep;
  const int steps = (task.k + kStep - 1) / kStep;

  const uint32_t shared = ptx::align_up(ptx::smem_base(), 512);
  const auto stage = [&](int step) { return shared + step % Tile::kStages * Gather<Tile>::kBytes; };
  const Gather<Tile> gather(task, first_pixel, group, first_n);
  Tile tile;
  for (int step = 0; step < Tile::kStages - 1; step++) {
    if (step < steps) gather.load(step, stage(step));
    ptx::cp_async_commit();
  }
  for (int step = 0; step < steps; step++) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    ptx::syncthreads();  // this step is there, and all are done with the step whose stage is filled next
    const int next = step + Tile::kStages - 1;
    if (next < steps) gather.load(next, stage(next));
    ptx::cp_async_commit();
    tile.multiply(stage(step), stage(step) + Tile::kM * kStepBytes);
  }

  tile.each([&](int row, int col, auto& v) {
    constexpr int kCount = sizeof(v) / sizeof(float);
    const int64_t pixel = first_pixel + row;
    const int n = first_n + col;
    if (pixel >= c.out_pixels()) return;
    const float noise =
        e.noise ? e.noise_weight * ptx::ldg(e.noise + pixel % (int64_t{c.out_height} * c.out_width)) : 0;
    const int64_t channel = int64_t{group} * c.out + n, at = pixel * c.out_channels + channel;
    FSV_UNROLL for (int i = 0; i < kCount; i++) v[i] +=
        (e.bias && n + i < c.out ? ptx::ldg(e.bias + channel + i) : 0) + noise;
    activate(e.activation, v);
    FSV_UNROLL for (int i = 0; i < kCount; i++) {
      if (n + i >= c.out) return;
      if (e.residual) v[i] += load_element(static_cast<const T*>(e.residual) + at + i);
      store_element(static_cast<T*>(e.out) + at + i, v[i]);
    }
  });
}

}  // namespace fsv::cuda::kernels
